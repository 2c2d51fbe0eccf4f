"""From the rows of files to tokens on disk.

Read `settings` and `prepare` first, then `fill` (the one pass over all rows) with `tally` (what it counts), `store`
(prepared rows), `mixture` (which row comes when) and `held_out` (prompts of a split as text). `reading` makes typed
rows of files, `text` makes text and tokens of rows.
"""

"""Other projects' files, read into an evaluation's folder and written from one; what is lost on the way is told.

Read `base` first, then `mt_bench`, which has everything; `alpaca_eval`, `arena_hard`, `lm_eval`, `inspect_ai` and
`rows` are the others. `table` knows them by name, and `moving` is what the commands call.
"""

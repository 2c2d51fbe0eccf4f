"""The page of a run: one self-contained HTML file.

Read `page` first, then `folder` (what a run folder says), `headline`, `sections`, `findings`; `curves` and `svg`
draw, `values`, `rounds`, `measured` and `text` write. `compare` and `pipeline` set several runs side by side.
"""

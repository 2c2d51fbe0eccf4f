"""The page of a run: one self-contained HTML file.

Read `page` first, then `folder` with `lines` (what a run folder says) and `state` (whether the run has ended),
`headline`, `sections`, `curves`, `samples` and `findings`. `compare` and `pipeline` set several runs side by side, and
`alike` says which of their numbers may stand on one axis. `watch` writes the page anew while a run goes on. What pages
are made of is in `parts`, sections that only some runs have in `measured`, and all markup in templates/.
"""

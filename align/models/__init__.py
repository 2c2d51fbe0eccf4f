"""Models: where they come from, what is put on them, how they are saved.

Read `load` first, with `sources` (folders, assets, the hub) and `settings`; then `parts` (backbone and head),
`adapters` with `ahead` (their jumps), `frozen`, `tokenizer` and `save`. `fresh` makes weights, `outline` a model
without them, `hollow` one that reads them later.
"""

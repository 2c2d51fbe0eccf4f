"""A run, put together.

Read `train` first (from a recipe to a finished folder), then `assemble` with `parts`, `offline`, `online`, `critic`,
`twin` and `server` (which pieces are made of what), `resume` (from where it goes on), `identity` (what a run is),
`told` (what is said of it) and `export` (a model folder of a checkpoint).
"""

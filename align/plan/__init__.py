"""What a run would take, before it runs: memory of a GPU by part, and the time of a step, for each sharding.

Sizes come from config.json and from the headers of the safetensors files; no weights are loaded. Read `shapes` first
(a model in numbers), then `work` (a recipe in numbers), `parts` (bytes, one small function for each part), `sharding`
(who holds what), `peak` (what stands at the same time), `speed` (the step) and `advice` (what to take, and what to
change where nothing fits).
"""

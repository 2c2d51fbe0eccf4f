"""Recipes: read, checked, resolved.

Read `load` first: it names the others in the order in which they are called. `text` and `types` read YAML into typed
sections; `combinations`, `online` and `comparing` know what no single key can; `look_at_data`, `look_at_models`,
`look_at_rows`, `replays` and `past` (run folders as models) look at what a recipe names; `defaults`, `notes` and
`steps` settle; `sharding` says what does not go with one. Other projects' words are in `translate`.
"""

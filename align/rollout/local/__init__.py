"""Writing with the model that is trained, in this process.

Read `engine` first, then `rows` (completions side by side). `roomy_cache` and `shared_prompts` hold keys and values,
`cache_check` measures whether a model bears them, `uncached` serves those that do not. `alone` is a model that nobody
trains, with all of that around it.
"""

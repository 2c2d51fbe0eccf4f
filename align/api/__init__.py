"""Python, for scripts and notebooks: `align.train(...)` gives a run, and `align.Run(folder)` opens an earlier one.

Read `train` first (a call becomes a recipe and a run), then `run` (what one looks at), `given` (objects become what a
recipe can name: rows, models, functions) and `apart` (what the process was before is put back).
"""

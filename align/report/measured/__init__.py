"""Sections that only some runs have.

Read `rounds` and `weights` first (what happens in a run of such a method), then `game`, `values` and `task_scores`:
what was measured beside the losses, the last of them by align-eval. `standings` is of many runs: which is best.
"""

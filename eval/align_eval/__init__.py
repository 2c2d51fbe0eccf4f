"""Evaluation: did it help, and how sure is that.

Read `cli` first, then `commands`, `records` and `statistics`.
"""

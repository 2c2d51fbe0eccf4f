"""Tiny worlds whose right answer is known. A method that cannot learn one of them is wrong.

Read `bandit` first, then `echo` and `addition`; `calculator` is an environment. `games` are of preferences, in tables.
"""

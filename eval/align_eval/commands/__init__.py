"""The commands of `align-eval`, one file each.

Read `compare` first: what a command reads from its arguments and what it prints; the work stands elsewhere.
"""

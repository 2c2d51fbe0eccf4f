"""Instructions that a program can check, of 25 kinds (Zhou et al. 2023, arXiv:2311.07911).

Read `check` first: strict and loose, prompts and instructions. `kinds` has a checker for each kind, `counting` what
they count, `language` in which language a text is.
"""

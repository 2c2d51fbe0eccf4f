"""Instructions that a program can check, of 25 kinds.

Read `check` first: strict and loose, prompts and instructions.
"""

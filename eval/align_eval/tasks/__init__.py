"""Tasks are data: a YAML file says where rows are, how one becomes a prompt, and how an answer is read and scored.

Read `task` first: what a YAML file may say. Then `items`: rows become items, with their worked examples before them.
The tasks that ship stand beside these files, their rows in `data`, where README.md names licence and source of each.
"""

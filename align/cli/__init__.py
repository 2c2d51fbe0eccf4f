"""The commands.

Read `main` first; `check`, `doctor` with `doctor_online`, `methods` and `chat` have a file each, the others are a
call of `run`, `report` or `models`.
"""

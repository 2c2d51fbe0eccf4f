"""The commands.

Read `main` first, then `begin` (those by which one begins, and those for a model that is there); `check`, `doctor` with
`doctor_online`, `translate`, `init`, `data`, `methods` (made by `entries`), `sweep` and `chat` have a file each, the
others are a call of `run`, `report` or `models`.
"""

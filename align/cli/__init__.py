"""The commands.

Read `main` first, then `begin` and `finished` (the commands by which one begins and ends); `check`, `doctor` with
`doctor_online`, `translate`, `init`, `data`, `methods` (made by `entries`), `sweep` and `chat` have a file each, the
others are a call of `run`, `report` or `models`.
"""

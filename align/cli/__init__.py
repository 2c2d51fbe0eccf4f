"""The commands.

Read `main` first, then `begin` (the commands by which one begins); `check`, `doctor` with `doctor_online`, `translate`,
`init`, `data`, `methods` (made by `entries`), `sweep` and `chat` have a file each, the others are a call of `run`,
`report` or `models`.
"""

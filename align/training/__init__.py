"""The loop, and what it calls.

Read `loop` first with `portion` (what a step learns from), then `step` (one exact update: a list of lessons), `team`
(who learns), `evaluate`, `snapshot` (all state, bitwise), `critic`, `sources` (weights of sources of rows), `optim` and
`build`. It knows no method, and not where experience comes from: that is the room `sources`, a floor above.
"""

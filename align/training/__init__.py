"""The loop, and what it calls.

Read `loop` first, then `step` (one exact update), `evaluate`, `snapshot` (all state, bitwise), `critic`, `optim` and
`build`. It knows no method, and not where experience comes from: that is `sources`, a floor above.
"""

"""Where experience comes from: rows that are there, or what the policy writes.

Read `rows` and `offline` first (`two_levels` has a trusted set beside its rows), then `online` with `harvest` (from
completions to what is learned) and `buffer` (an experience that lasts for several steps). `held_out` writes for
evaluations, `audit` asks what states are worth, `told` says what an experience was like, `rounds` keeps experiences as
files, `served_policy` gives a server its weights.
"""

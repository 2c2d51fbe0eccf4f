"""A model over given tokens: from groups of sequences to columns of numbers.

Read `layout` first (how groups become rows of one forward pass), `plan` (who computes what), `score` (the only place
where a model runs over given tokens), `experience` (what a method learns from) and `roles` (the frozen models beside
the policy). Which layout a model gets right is measured: `choose_layout`, with `probe` and `rounding`. `attention`,
`cpu_blocks`, `packing` and `routing` are what these stand on.
"""

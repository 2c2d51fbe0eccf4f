"""Formulas over tensors, each with its paper and its equation. They import torch and nothing of ours.

Read `masked` first (what a mask means), then `logprobs`, `preference` (pairs), `advantages`, `surrogate` and `kl`
(what a policy writes); the rest serves one or two methods each.
"""

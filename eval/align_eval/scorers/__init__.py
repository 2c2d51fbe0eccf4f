"""Answers are judged: what is extracted from them, and whether it is right.

Read `judge` first, which asks the others: `extract` finds an answer in a text, `texts` compares it, `choices` reads
log-probabilities, `ifeval` checks instructions, `code` runs programs in a `sandbox`.
"""

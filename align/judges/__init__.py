"""Judges of answers: whoever says how good an answer is, or which of two is better.

Read `base` first: what a judge is asked, and what it says. A model that judges is `asking`: `prompts` fills its
instructions, `local` and `served` (behind an endpoint) are who replies, `replies` remembers, `budget` limits, and
`verdicts` reads what came back, with `quoted` and `explanation`. Others are `rules`, `scorers` (models of rewards),
`recorded` verdicts and a `panel` of several. `named` makes one of what stands on a command line, and
`as_reward` makes one a reward to train with.
"""

"""From verdicts, scores and answers to results: typed, with intervals, and with what is missing counted.

Read `evaluation` first: what a folder holds. Then `games`, one number for each prompt; `pairs`, what a judge says of
two models; `scores`, the same of metrics, and `missing`; `judges`, how far these can be relied on. `comparison` is of
two models, `runs` of two runs' tests, `gate` a condition on either; `leaderboard`, over `ratings`, is of all models,
`style` with what style buys taken out, `frontier` of checkpoints. `telling` and `writing` bring them to the terminal
and the disk for `compare_command` and `leaderboard_command`.
"""

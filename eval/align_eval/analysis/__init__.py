"""From verdicts, scores and answers to results: typed, with intervals, and with what is missing counted.

Read `material` first: what a folder holds. Then `games`, one number for each prompt; `pairs`, what a judge says of
two models; `scores`, the same of metrics; `judges`, how far these can be relied on. `leaderboard` stands on `ratings`.
"""

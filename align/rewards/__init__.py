"""What judges completions: functions found by name, held to one signature, summed and shaped.

Read `base` first, then `verdicts` and `shape`. `pool` and `worker` run functions in processes of their own; `given` has
those that were given as objects. The rest
are rewards that a recipe can name: `length` is the smallest, `math/math_answer` the longest, and `pairwise/win_rate`
asks who beats whom.
"""

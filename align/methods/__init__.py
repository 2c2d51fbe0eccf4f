"""One file for each method: what it needs, its knobs, its loss.

Read `base` first (`lookup` knows methods by their names, `hooks` tells what one from outside has raised), then `dpo`
(pairs), `rloo` (what the policy writes) and `ppo` (with a critic). Every other method is one of these three with
another formula.
"""

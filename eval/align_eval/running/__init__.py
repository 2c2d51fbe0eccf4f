"""Answers are made, scored and summed up in one go.

Read `run` first: a task and its models, from nothing to results.json. `scoring` scores what has no score yet, `summary`
makes estimates of scores, `dry` says what a command would cost, `checkpoints` does it for every checkpoint of a run,
and `harness` asks lm-evaluation-harness.
"""

"""What was measured on held-out prompts beside the losses: games against the reference, scores on tasks.

Read `game` first, whose numbers the run made itself; those of `task_scores` are made by align-eval.
"""

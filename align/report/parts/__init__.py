"""What every page of ours is made of, a run's and an evaluation's: Python computes, templates write, nobody escapes.

Read `blocks` first (what a section is made of), then `frame` (templates, the policy, saving), `figures` (what is drawn
in a chart), `embedded` (data for the page's scripts) and `points` (curves and their thinning).
"""

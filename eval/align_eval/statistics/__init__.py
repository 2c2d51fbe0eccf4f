"""Numbers with their uncertainty, from arrays to estimates; nothing here knows of models, judges or files.

Read `estimate` first: every number that is told has an interval, or says why it has none. Then `resampling` and
`shares`, the intervals; `tests`, of differences; `bradley_terry` and `many_fits`, strengths from games;
`length_control` and `style` over `logistic`; `samples`, several of one problem; `agreement`, between raters;
`divergence`, what is earned for how much of it; `sequential`, evidence that may be looked at again and again.
"""

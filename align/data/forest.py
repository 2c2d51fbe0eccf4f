"""Groups laid out as rows of one forward pass.

    padded   one row per sequence, padded at the right; plain causal attention
    packed   a few sequences end to end in a row; each attends to itself only, positions restart
    shared   a group's prompt stands once; each completion attends to the prompt and to itself, positions go on from it

`lay_out` turns what a plan put into one micro-batch into `Rows`: tokens, positions, who may see whom (`tree`,
`branch`), and for every completion token the place that predicts it.
"""

"""Having the answers of an evaluation judged.

Read `run` first: what is asked, by whom, and what is kept. `questions` makes questions of answers, `settings` reads
KEY=VALUE, `reread` reads kept replies anew, `tell` puts it into lines. `rewarding` has reward models score answers, and
`endpoint` says what an endpoint can and cannot do. `checkpoints` judges those of a run; `tell_checkpoints` puts that
into lines.
"""

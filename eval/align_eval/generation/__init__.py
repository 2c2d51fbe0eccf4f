"""Answers are written: by a model folder, a run, a checkpoint, an endpoint, or taken from a file.

Read `settings` first, then `models`, where a name becomes something that writes, and `answers`, which asks it for what
is missing and nothing else. `local`, `vllm`, `endpoint` and `recorded` are those that write; `trained` reads what a
run's recipe says of its template; `readings` makes token ids of items; `identity` says when two writings are one, and
`affording` what a budget has room for.
"""

"""The processes of a run: how many there are, over what the model is sharded, how they live and end together.

Read `distributed` first, then `shards` (a model is divided as it is read) with `engine` (DeepSpeed's settings).
`signals` and `pulse` are how a run is stopped, and how it sees that another process is gone or that none gets on;
`stages` and `heartbeat` tell those outside what each is doing; `launcher` looks at what started it, `here` says which
process it is.
"""

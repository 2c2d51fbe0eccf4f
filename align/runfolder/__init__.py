"""What stands on disk: the folder of a run, its logs, its checkpoints.

Read `folder` first (what stands where, and whether a resume is the same run), then `checkpoint` (whole or not there)
with `commits` (beside the training) and `unended`, `logs` (a line is whole or not there), `state_files`, `fragments`
(what is divided over ranks), `lock`, `environment` and `data_json`.
"""

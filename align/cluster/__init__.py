"""Runs on this machine and under Slurm: what is asked for, the script that is submitted, and what becomes of the job.

Read `settings` first, then `local` (ranks on this machine), `script` (the text that Slurm is given), `submission` (what
is kept of it in the run folder) and `slurm` (Slurm's own commands). `stages` and `pipelines` are jobs that follow each
other, `grid`, `sweeps` and `course` runs beside each other. In the job `preflight` comes first: by `attempt` a rank
knows where it belongs, in a `meeting` it finds the others, and its `card` is what is compared. `doctor` says afterwards
what has become of it, with `logs` taken apart.
"""

"""Runs on this machine and under Slurm: what is asked for, the script that is submitted, and what becomes of the job.

Read `settings` first, then `local` (ranks on this machine), `script` (the text that Slurm is given), `submission` (what
is kept of it in the run folder) and `slurm` (Slurm's own commands). `stages` and `pipelines` are jobs that follow each
other. In the job `attempt` is what a rank is told, `preflight` what it looks at before all else, by `meeting` the others
(its store) and by each one's `card`. When it is over, `logs` cuts its log into attempts, and `doctor` says where which
rank stopped.
"""

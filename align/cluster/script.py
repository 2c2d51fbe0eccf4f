"""The script that Slurm is given, `job.sh`: plain text, to be read and changed by whoever knows the cluster.

There is no launcher between srun and the ranks: srun starts `align` itself, with the variables that a launcher would
set. A launcher dies of the signals that warn of a time limit, turns exit codes into 1, and kills its ranks after half a
minute. The batch shell alone gets the warning; it asks the ranks to stop, which finish their step, save and end with
75, and puts the job back into the queue. So it does after a rank that was killed. A run that has made no checkpoint
since it was started last is not put back: it would go on so for ever.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from align.cluster.settings import OFFLOADS, SlurmJob

OF_ZERO = {"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DEEPSPEED_ZERO3_INIT": "false"}
OF_FSDP = {  # as launch/accelerate/fsdp2.yaml has it
    "ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2", "FSDP_RESHARD_AFTER_FORWARD": "true",
    "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP", "FSDP_STATE_DICT_TYPE": "SHARDED_STATE_DICT",
    "FSDP_CPU_RAM_EFFICIENT_LOADING": "false", "FSDP_ACTIVATION_CHECKPOINTING": "false",
}  # fmt: skip


def _torchrun(job: SlurmJob, python: str) -> str:
    told = f"--nnodes {job.nodes} --nproc-per-node {job.ranks_of_node} --node-rank $SLURM_NODEID"
    return f"{python} -m torch.distributed.run {told} --master-addr $MASTER_ADDR --master-port $MASTER_PORT"


def _accelerate(job: SlurmJob, python: str) -> str:
    told = f"--num_machines {job.nodes} --num_processes {job.num_ranks} --machine_rank $SLURM_NODEID"
    told += " --main_process_ip $MASTER_ADDR --main_process_port $MASTER_PORT --mixed_precision no --dynamo_backend no"
    kind = "--multi_gpu" if job.gpus_per_node else "--cpu"
    return f"{python} -m accelerate.commands.accelerate_cli launch {kind} {told}"


LAUNCHERS: dict[str, Callable[[SlurmJob, str], str]] = {
    "srun": lambda job, python: python, "torchrun": _torchrun, "accelerate": _accelerate,
}  # fmt: skip


ODD = re.compile(r"[^\w.+-]+")  # what sbatch would cut a name at
SILENCE, LEAST = 90, 10  # seconds without a heartbeat of any rank, after which nobody is left


@dataclass(frozen=True, kw_only=True)
class Places:
    """Where things stand, as absolute paths that all nodes see."""

    script: Path
    run: Path  # the run folder; of an array the folder of all of them
    code: Path  # the snapshot that is imported
    recipe: Path
    cwd: Path  # where relative paths of the recipe begin
    python: Path


def script(name: str, job: SlurmJob, places: Places) -> str:
    python = shlex.quote(str(places.python))
    run, train = shlex.quote(str(places.run)), f"train {shlex.quote(str(places.recipe))}"
    if job.array:
        run = f"{run}/seed-$SLURM_ARRAY_TASK_ID\nexport RUN"
        train += ' training.seed=$SLURM_ARRAY_TASK_ID "training.output_dir=$RUN"'
    known = {
        "options": "\n".join(options(name, job, places)), "script": places.script, "cwd": shlex.quote(str(places.cwd)),
        "code": shlex.quote(str(places.code)), "run": run, "folder": shlex.quote(str(places.script.parent)),
        "prelude": job.prelude, "ranks": job.num_ranks,
        "of_node": job.ranks_of_node, "sharding": exports(sharding(job.sharding, job.offload)),
        "most": job.max_requeues,
        "gpus": job.gpus_per_node, "preflight": job.preflight, "patience": job.patience, "grace": job.grace,
        "nodes": job.nodes, "asked": (job.nodes + job.vllm_nodes) * job.ranks_of_node,
        "servers": servers(job, python),
        "silence": min(SILENCE, max(job.patience, LEAST)),
        "tasks": tasks(job),
        "command": f"{inner(job.container)} {LAUNCHERS[job.launcher](job, python)} -m align {train}".strip(),
    }  # fmt: skip
    return filled("job.sh", known)


def inner(text: str) -> str:
    """Text of shell as it stands within single quotes."""
    return text.replace("'", "'\\''")


def filled(name: str, known: Mapping[str, object]) -> str:
    """A template of this folder, with what is known in the place of its names."""
    text = files("align.cluster").joinpath(name).read_text(encoding="utf-8")
    return re.sub(r"@(\w+)@", lambda found: str(known[found[1]]), text)


def servers(job: SlurmJob, python: str) -> str:
    """The part of the script that keeps vLLM servers; empty where none are placed."""
    if not job.num_servers:
        return ""
    each = job.vllm_servers_per_node
    nodes = f"--nodes={job.vllm_nodes} --relative={job.nodes}" if job.vllm_nodes else f"--nodes={job.nodes}"
    known = {
        "num_servers": job.num_servers, "servers_of_node": each, "gpus_of_server": job.gpus_of_server,
        "where": f"{nodes} --ntasks={job.num_servers // each} --ntasks-per-node=1", "wait": job.preflight or 120,
        "keeper": f"{inner(job.container)} {python} -m align.rollout.vllm.keeper".strip(),
    }  # fmt: skip
    return filled("servers.sh", known)


def tasks(job: SlurmJob) -> str:
    """What srun starts: the ranks, or a launcher on each node, which has all that the job has there."""
    first = f"--nodes={job.nodes} --relative=0 " if job.vllm_nodes else ""
    if job.launcher == "srun":
        return f"{first}--ntasks={job.num_ranks} --ntasks-per-node={job.ranks_of_node}"
    return f"{first}--ntasks={job.nodes} --ntasks-per-node=1 --cpu-bind=none"


def sharding(kind: str, offload: str = "") -> dict[str, str]:
    """What accelerate reads."""
    if kind.startswith("zero"):
        parts = ("OPTIMIZER", "PARAM")[: OFFLOADS.index(offload)]
        away = {f"ACCELERATE_DEEPSPEED_OFFLOAD_{part}_DEVICE": "cpu" for part in parts}
        return {**OF_ZERO, "ACCELERATE_DEEPSPEED_ZERO_STAGE": kind.removeprefix("zero"), **away}
    return {**OF_FSDP, "FSDP_OFFLOAD_PARAMS": str(bool(offload)).lower()} if kind == "fsdp2" else {}


def exports(values: Mapping[str, str]) -> str:
    return f"export {' '.join(f'{name}={value}' for name, value in values.items())}" if values else ""


def options(name: str, job: SlurmJob, places: Places) -> Iterator[str]:
    """The head of a script: what sbatch reads."""
    yield "#!/bin/bash"
    log = places.script.parent / ("slurm-%A_%a.log" if job.array else "slurm-%j.log")
    told = {
        "job-name": ODD.sub("-", name), "nodes": job.nodes + job.vllm_nodes,
        "ntasks-per-node": job.ranks_of_node, "output": log,
        "open-mode": "append", "gpus-per-node": job.gpus_per_node or None, "time": job.time,
        "partition": job.partition, "array": job.array,
        "dependency": f"afterok:{job.after}" if job.after else "",
        "signal": f"B:USR2@{job.warning}" if job.warning else "",
    }  # fmt: skip
    yield from (f"#SBATCH --{option}={value}" for option, value in told.items() if value not in ("", None))
    yield from (f"#SBATCH --{option}" + (f"={value}" if value else "") for option, value in job.sbatch.items())
    yield "#SBATCH --requeue"

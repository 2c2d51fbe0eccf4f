"""What a job is asked for."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal, get_args

from align.errors import Mistakes

Launcher = Literal["srun", "torchrun", "accelerate"]
Sharding = Literal["ddp", "zero1", "zero2", "zero3", "fsdp2"]
OFFLOADS = ("", "optimizer", "param")  # into the main memory: what the optimiser keeps and gradients; weights, too
TIME = re.compile(r"\d+|\d+:\d\d|\d+:\d\d:\d\d|\d+-\d+(:\d\d(:\d\d)?)?")
KEY = re.compile(r"[a-z][a-z0-9-]*")
OURS = (  # options of sbatch that have a place of their own here
    "nodes", "ntasks", "ntasks-per-node", "time", "partition", "array", "dependency", "signal", "requeue", "output",
    "error", "open-mode", "job-name", "chdir", "gpus-per-node",
)  # fmt: skip


def seconds_of(time: str) -> int:
    """Of a time as sbatch has it: minutes, minutes:seconds, hours:minutes:seconds, days-hours, days-hours:minutes."""
    days, dash, rest = time.rpartition("-")
    parts = [int(part) for part in rest.split(":")]
    units = (3600, 60, 1) if dash or len(parts) == 3 else (60, 1)
    return 86400 * int(days or 0) + sum(unit * part for unit, part in zip(units, parts, strict=False))


def _is_list(array: str) -> bool:
    if not re.fullmatch(r"\d+(-\d+)?(,\d+(-\d+)?)*(%\d+)?", array):
        return False
    ranges = [part.split("-") for part in array.partition("%")[0].split(",")]
    return all(int(ends[0]) <= int(ends[-1]) for ends in ranges)


def wrong_shares(sharding: str, offload: str) -> list[str]:
    """What is wrong with these two options."""
    if sharding not in get_args(Sharding):
        return [f"--sharding: {sharding} is none of {', '.join(get_args(Sharding))}"]
    if offload == "nvme":
        return ["--offload: what lies on NVMe would be in no checkpoint; take optimizer or param, the main memory"]
    if offload not in OFFLOADS:
        return [f"--offload: {offload} is none of optimizer, param"]
    if offload == "param" and sharding not in ("zero3", "fsdp2"):
        return [f"--offload: param needs divided weights, and {sharding} keeps them whole; take zero3 or fsdp2"]
    if offload == "optimizer" and not sharding.startswith("zero"):
        cure = "--offload param" if sharding == "fsdp2" else "--sharding zero2"
        return [f"--offload: optimizer, alone, is for zero1, zero2 and zero3; with {sharding} take {cure}"]
    return []


@dataclass(frozen=True, kw_only=True)
class SlurmJob:
    """How a recipe is run by Slurm."""

    nodes: int = 1
    gpus_per_node: int = 0  # one rank for each; 0: no GPU is asked for
    ranks_per_node: int = 0  # 0: as many as GPUs, one without any
    sharding: Sharding = "ddp"
    offload: str = ""  # optimizer or param, into the main memory
    time: str = ""  # as sbatch has it, such as 12:00:00 or 2-00; empty: the partition's
    partition: str = ""
    array: str = ""  # seeds, such as 0-4 or 1,2,7: one run for each, in seed-N of the run folder
    after: str = ""  # a job that must have ended well before
    warning: int = 120  # seconds before the time limit at which the ranks are asked to save and the job is put back
    max_requeues: int = 50
    preflight: int = 120  # seconds in which all ranks must have come and agree; 0: nothing is looked at
    patience: int = 1800  # seconds without a sign of progress after which a run counts as hung
    grace: int = 120  # seconds that the other ranks have to end by themselves once one has ended
    launcher: Launcher = "srun"  # what starts the ranks on a node; srun itself: nothing stands in between
    vllm_nodes: int = 0  # further nodes, for vLLM servers alone
    vllm_gpus_per_node: int = 0  # of gpus_per_node, the last ones: for vLLM servers beside the ranks
    vllm_servers_per_node: int = 1  # that share those GPUs, or such a node, evenly
    prelude: str = ""  # lines of shell before the ranks start: module load, conda activate, source
    container: str = ""  # in front of each rank's command: apptainer exec --nv image.sif
    # further options: account, qos, constraint, ...; one without a value, such as exclusive, has an empty one
    sbatch: dict[str, str] = field(default_factory=dict)

    def __post_init__(self):
        found = [*self._numbers(), *self._words()]
        found += [] if found else self._servers()
        if found:
            raise Mistakes(found)

    @property
    def ranks_of_node(self) -> int:
        return self.ranks_per_node or self.gpus_per_node - self.vllm_gpus_per_node or 1

    @property
    def num_ranks(self) -> int:
        return self.nodes * self.ranks_of_node

    @property
    def num_servers(self) -> int:
        """vLLM servers that the job has places for."""
        nodes = self.vllm_nodes or (self.nodes if self.vllm_gpus_per_node else 0)
        return nodes * self.vllm_servers_per_node

    @property
    def gpus_of_server(self) -> int:
        of_node = self.gpus_per_node if self.vllm_nodes else self.vllm_gpus_per_node
        return of_node // self.vllm_servers_per_node

    def _numbers(self) -> list[str]:
        least = {"nodes": 1, "gpus_per_node": 0, "ranks_per_node": 0, "warning": 0, "max_requeues": 0}
        least |= {"preflight": 0, "patience": 1, "grace": 0}
        least |= {"vllm_nodes": 0, "vllm_gpus_per_node": 0, "vllm_servers_per_node": 1}
        found = [
            f"--{name.replace('_', '-')}: {getattr(self, name)} must be at least {low}"
            for name, low in least.items()
            if getattr(self, name) < low
        ]
        if self.gpus_per_node and not self.vllm_gpus_per_node and self.ranks_per_node > self.gpus_per_node:
            found.append(
                f"--ranks-per-node: {self.ranks_per_node} ranks need a GPU each, and there are {self.gpus_per_node}"
            )
        return found

    def _servers(self) -> list[str]:
        found: list[str] = []
        if self.vllm_gpus_per_node and self.vllm_nodes:
            found.append("--vllm-gpus-per-node: with --vllm-nodes servers have nodes of their own; choose one of both")
        elif self.vllm_gpus_per_node >= max(self.gpus_per_node, 1):
            found.append(
                f"--vllm-gpus-per-node: {self.vllm_gpus_per_node} of --gpus-per-node {self.gpus_per_node} leaves no "
                "GPU for ranks"
            )
        elif self.vllm_gpus_per_node and self.ranks_of_node > self.gpus_per_node - self.vllm_gpus_per_node:
            found.append(
                f"--ranks-per-node: {self.ranks_of_node} ranks need a GPU each, and "
                f"{self.gpus_per_node - self.vllm_gpus_per_node} are left beside the servers'"
            )
        of_node = self.gpus_per_node if self.vllm_nodes else self.vllm_gpus_per_node
        if self.vllm_servers_per_node > 1 and not self.num_servers:
            found.append("--vllm-servers-per-node: has no effect without --vllm-nodes or --vllm-gpus-per-node")
        elif of_node % self.vllm_servers_per_node:
            found.append(f"--vllm-servers-per-node: {self.vllm_servers_per_node} do not share {of_node} GPUs evenly")
        return found

    def _words(self) -> list[str]:
        found = wrong_shares(self.sharding, self.offload)
        if self.launcher not in get_args(Launcher):
            found.append(f"--launcher: {self.launcher} is none of {', '.join(get_args(Launcher))}")
        if self.time and not TIME.fullmatch(self.time):
            found.append(f"--time: {self.time} is no time of sbatch, such as 30 (minutes), 12:00:00 or 2-00")
        elif self.time and 0 < seconds_of(self.time) <= self.warning:
            text = f"{self.warning} seconds before the end leave nothing of --time {self.time}; lower it"
            found.append(f"--warning: {text}")
        if self.array and not _is_list(self.array):
            found.append(f"--array: {self.array} is no list of seeds, such as 0-4 or 1,2,7")
        if self.after and not re.fullmatch(r"\d+(_\d+)?", self.after):
            found.append(f"--after: {self.after} is no number of a job")
        for name, value in self.sbatch.items():
            if name in OURS:
                found.append(f"--sbatch {name}: has an option of its own, or is decided here")
            elif not KEY.fullmatch(name) or "\n" in value:
                found.append(f"--sbatch {name}={value}: expected KEY=VALUE, such as account=physics")
        found += [f"--partition: {self.partition!r} is no name"] if re.search(r"\s", self.partition) else []
        return found

"""The processes of a run: how many there are, how the model is sharded over them, and what they must agree on.

Launchers promise more than they deliver (two processes that are one, FSDP that is plain DDP), so what came true is
compared with what was asked for before anything is trained.
"""

from __future__ import annotations

import datetime
import os
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, NoReturn, TypeVar

import torch
import torch.distributed as dist
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DeepSpeedPlugin, DistributedType, InitProcessGroupKwargs
from torch import Tensor, nn

from align.errors import AlignError, Elsewhere, RunError, UserError
from align.system.machine import spare_deepspeed_the_search
from align.world.engine import build_nothing, deepspeed_config
from align.world.launcher import refuse_ignored
from align.world.signals import Asked

KINDS = {
    DistributedType.NO: "none",
    DistributedType.MULTI_CPU: "ddp",
    DistributedType.MULTI_GPU: "ddp",
}

T = TypeVar("T")

# All ranks wait while the main one prepares the data or fetches a model; NCCL would give up after ten minutes.
Precision = Literal["auto", "no", "bf16"]  # what `training.mixed_precision` may say
PATIENCE = datetime.timedelta(hours=2)
GONE = re.compile(r"Connection (closed|reset) by peer|Broken pipe|\bgloo\b.*([Tt]imed out|closed)")


@dataclass(frozen=True)
class World:
    """All processes of the run, seen from one of them."""

    accelerator: Accelerator
    sharding: str  # none | ddp | zero1 | zero2 | zero3 | fsdp2
    rank: int = field(init=False)
    size: int = field(init=False)  # how many processes there are
    main: bool = field(init=False)
    device: torch.device = field(init=False)  # of this rank
    deepspeed: bool = field(init=False)

    def __post_init__(self):
        known = {
            "rank": self.accelerator.process_index, "size": self.accelerator.num_processes,
            "main": self.accelerator.process_index == 0, "device": self.accelerator.device,
            "deepspeed": self.sharding.startswith("zero"),
        }  # fmt: skip
        for name, value in known.items():
            object.__setattr__(self, name, value)

    def barrier(self) -> None:
        if self.size > 1:
            dist.barrier()

    def sum(self, values: Tensor) -> Tensor:
        """The sum over ranks, on every rank; the dtype and the device are kept."""
        if self.size == 1:
            return values
        total = values.to(self.device, copy=True)
        dist.all_reduce(total)
        return total.to(values.device)

    def any(self, flag: bool) -> bool:
        """True on every rank where it is true on one."""
        return bool(self.sum(torch.tensor(int(flag), device=self.device)).item())

    def everyone(self, value: Any) -> list[Any]:
        """The value of every rank, in order of rank."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def must_agree(self, what: str, value: Any) -> None:
        """Stops a run whose ranks see different things."""
        values = self.everyone(value)
        if any(v != values[0] for v in values):
            seen = "; ".join(f"rank {i}: {v}" for i, v in enumerate(values))
            raise UserError(f"{what} differs between the processes: {seen}. Every process must read the same files")

    def fail(self, text: str) -> NoReturn:
        """Ends a run for a reason that every rank has found; the main one tells it."""
        raise RunError(text) if self.main else Elsewhere(text)

    def once_per_machine(self, make: Callable[[], T]) -> T:
        """What `make` gives to the first process of this machine; what it raises there ends all of them.

        For what is the same for all processes that see the same disk, and slow. All ranks take part.
        """
        if self.size == 1:
            return make()
        made: T | None = None
        failure: BaseException | None = None
        local = self.accelerator.local_process_index
        if local == 0:
            try:
                made = make()
            except BaseException as error:
                failure = error
        told = self.everyone((made, failure and (str(failure), exit_code_of(failure))))
        if failure is not None:
            raise failure
        if trouble := next((f for _, f in told if f), None):
            raise Elsewhere(*trouble)
        return told[self.rank - local][0]  # a machine's ranks follow each other

    @contextmanager
    def main_first(self) -> Iterator[None]:
        """The main process goes through the block before the others; if it fails there, all of them stop."""
        if self.main:
            try:
                yield
            except BaseException as error:
                self.everyone((str(error), exit_code_of(error)))
                raise
            self.everyone(None)
            return
        failure = self.everyone(None)[0]
        if failure is not None:
            raise Elsewhere(*failure)
        yield

    @property
    def divides(self) -> bool:
        """Whether each rank has a share of the weights, and not all of them."""
        return self.sharding in ("zero3", "fsdp2")

    def unwrap(self, module: nn.Module) -> Any:
        """The module that was prepared, out of whatever was put around it."""
        return self.accelerator.unwrap_model(module, keep_torch_compile=False)


def exit_code_of(error: BaseException) -> int:
    """That this process will end with."""
    return error.exit_code if isinstance(error, AlignError | Asked) else 1


def lost(error: BaseException) -> bool:
    """Whether it says that another process is gone."""
    return isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and bool(GONE.search(str(error))))


def join(max_grad_norm: float, mixed_precision: Precision = "auto") -> World:
    """Makes this process part of the run that its launcher started, and checks what came true."""
    _refuse_lonely_process()
    cpu = not torch.cuda.is_available()
    wanted = _wanted_sharding()
    refuse_ignored(precision_of(mixed_precision, torch.device("cpu" if cpu else "cuda")))
    plugin = None
    if cpu:
        spare_deepspeed_the_search()
    if wanted.startswith("zero"):
        if cpu:
            build_nothing()
        warnings.filterwarnings("ignore", message=r"`torch\.distributed\.\w+` is deprecated")  # DeepSpeed's
        os.environ["ACCELERATE_CONFIG_DS_FIELDS"] = ""  # accelerate refuses a zero_stage beside a whole configuration
        plugin = DeepSpeedPlugin(hf_ds_config=deepspeed_config(int(wanted[-1]), max_grad_norm))
    elif cpu:
        os.environ["ACCELERATE_USE_CPU"] = "true"
    handlers = [InitProcessGroupKwargs(backend="gloo" if cpu else "nccl", timeout=PATIENCE)] if _launched() else []
    AcceleratorState._reset_state()  # a second run in this process brings its own settings of the engine
    with _without("ACCELERATE_USE_FSDP"):  # it shards on GPUs alone, and what is whole already; see shards.py
        accelerator = Accelerator(mixed_precision="no", deepspeed_plugin=plugin, kwargs_handlers=list(handlers))
    came = _sharding(accelerator)
    world = World(accelerator, wanted if (wanted, came) == ("fsdp2", "ddp") else came)
    _assert_came_true(world, wanted)
    return world


def precision_of(mixed_precision: Precision, device: torch.device) -> Literal["bf16", "no"]:
    """What `training.mixed_precision` comes to on this device."""
    if mixed_precision != "auto":
        return mixed_precision
    return "bf16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "no"


@contextmanager
def _without(name: str) -> Iterator[None]:
    """A variable of the environment, away while this lasts."""
    value = os.environ.pop(name, None)
    try:
        yield
    finally:
        if value is not None:
            os.environ[name] = value


def _launched() -> bool:
    return int(os.environ.get("WORLD_SIZE", "1")) > 1 or "LOCAL_RANK" in os.environ


def _wanted_sharding() -> str:
    if os.environ.get("ACCELERATE_USE_DEEPSPEED", "false").lower() == "true":
        return f"zero{os.environ.get('ACCELERATE_DEEPSPEED_ZERO_STAGE', '2')}"
    if os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true":
        return "fsdp2"
    return "ddp" if _launched() else "none"


def _sharding(accelerator: Accelerator) -> str:
    if accelerator.distributed_type == DistributedType.DEEPSPEED:
        plugin: Any = accelerator.state.deepspeed_plugin
        return f"zero{plugin.zero_stage}"
    return KINDS.get(accelerator.distributed_type, str(accelerator.distributed_type))


def _refuse_lonely_process() -> None:
    """`accelerate launch --cpu --num_processes 2` starts one process and leaves only this trace of the two."""
    env = os.environ
    if "ACCELERATE_USE_CPU" in env and "MASTER_PORT" in env and "WORLD_SIZE" not in env:
        raise UserError(
            "the launcher was asked for several processes and started one (accelerate does so with --cpu); "
            "use launch/accelerate/cpu_2.yaml, or torchrun --nproc_per_node"
        )


def _assert_came_true(world: World, wanted: str) -> None:
    asked = int(os.environ.get("WORLD_SIZE", "1"))
    real = dist.get_world_size() if dist.is_initialized() else 1
    if not asked == world.size == real:
        raise UserError(
            f"world size: the launcher asked for {asked}, accelerate sees {world.size}, torch sees {real}; "
            "check the launch file, and that every process has its own GPU (or is started by torchrun on CPU)"
        )
    if world.sharding != wanted:
        raise UserError(f"sharding: {wanted} was asked for, {world.sharding} came true; check the launch file")

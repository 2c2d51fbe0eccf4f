"""The time of a step on a rank, in seconds: computing, writing, exchanging; as if none of it were done at once.

The constants are round figures for models of billions of weights and not measured here; they are there to put shardings
in order. What a device promises is in its data sheet; `COMPUTED`, `READ` and `CARRIED` are the shares of it that large
matrices, a model that writes, and collectives usually get.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from align.plan import parts
from align.plan.peak import learners
from align.plan.sharding import Sharding
from align.plan.work import SINGLE, Model, Work, Written

COMPUTED, READ, CARRIED = 0.4, 0.6, 0.7
HOST, PCIE = 100e9, 25e9  # bytes a second of a node's main memory for an optimiser, and from a GPU to it
LAUNCH = 2e-4  # seconds that a layer takes at least to read one token: its kernels are launched one after the other


@dataclass(frozen=True, kw_only=True)
class Device:
    """A GPU, as its data sheet has it."""

    flops: float  # of bfloat16 matrices, a second; half of it in float32 (TF32)
    bandwidth: float  # of its memory, bytes a second
    link: float  # to others of the same node, bytes a second each way


DEVICES = {
    "a100": Device(flops=312e12, bandwidth=2.0e12, link=300e9),
    "h100": Device(flops=989e12, bandwidth=3.35e12, link=450e9),
    "h200": Device(flops=989e12, bandwidth=4.8e12, link=450e9),
}


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Where a rank is."""

    device: Device
    of_node: int  # ranks of one node
    network: float  # bytes a second from a node to the others

    def carried(self, ranks: int) -> float:
        """Bytes a second that a rank sends to the next one: on the way around, the slowest link counts."""
        outside = self.network / self.of_node
        return CARRIED * (self.device.link if ranks <= self.of_node else min(self.device.link, outside))


@dataclass(frozen=True, kw_only=True)
class Step:
    """Seconds."""

    computing: float
    writing: float
    exchanging: float

    @property
    def seconds(self) -> float:
        return self.computing + self.writing + self.exchanging


def step_of(work: Work, sharding: Sharding, machine: Machine) -> Step:
    written = work.written if work.written is not None and work.written.here else None
    return Step(
        computing=operations(work) / rate(work, machine),
        writing=writing(written, work, machine) / written.steps if written else 0.0,
        exchanging=exchanged(work, sharding) / machine.carried(work.ranks) + offloading(work, sharding, machine),
    )


def offloading(work: Work, sharding: Sharding, machine: Machine) -> float:
    """Where the optimiser is in the main memory: of a rank's share 4 bytes down and w up for each weight, and 28 read
    and written by the CPU, which all ranks of a node share; weights that are there, too, come up for each pass."""
    if not sharding.away:
        return 0.0
    learned = sum(model.learned for model in learners(work)) / work.ranks
    update = learned * (2 * SINGLE / PCIE + 7 * SINGLE * machine.of_node / HOST)
    if sharding.away == "optimizer":
        return update
    passes = 2 * work.micro_batches * sum(parts.weights(m) for m in learners(work))
    passes += work.micro_batches * sum(parts.weights(m) for m in work.scored if m.divided)
    return update + passes / work.ranks / PCIE


def rate(work: Work, machine: Machine) -> float:
    """Operations a second."""
    return COMPUTED * machine.device.flops / (1 if work.precision < SINGLE else 2)


def operations(work: Work) -> float:
    """Of a rank in a step. A token costs 2 N forward, N weights that it is multiplied by, and 4 N back, without an
    adapter's weights only 2 N; 2 N more where the layers are made again; 2 N of each model that scores it."""
    again = 2 if work.checkpointed else 0
    passes = [(2 + (2 if m.adapter else 4) + again, m) for m in learners(work)] + [(2, m) for m in work.scored]
    return own_tokens(work) * sum(n * m.shape.used() + n / 2 * attended(m, work.length) for n, m in passes)


def own_tokens(work: Work) -> int:
    """That a rank learns from in a step."""
    return ceil(work.batch / work.ranks) * work.group_tokens


def attended(model: Model, length: int) -> float:
    """4 a L for each of the tokens before, half of the sequence's on average."""
    return 4 * model.shape.queries * model.shape.layers * length / 2


def writing(written: Written, work: Work, machine: Machine) -> float:
    """Of an experience: as often as the rows are filled, all prompts at once and then token by token, each of which
    reads all weights, and the cache of what is there, from the memory."""
    shape, own = work.policy.shape, ceil(written.sequences / work.ranks)
    rows = min(own, written.rows)
    beginnings = ceil(rows / written.of_prompt) * written.prompt * 2 * shape.used() / rate(work, machine)
    read = shape.used() * work.precision + parts.cache(written, work, shape) * rows / written.rows / 2
    token = max(read / (READ * machine.device.bandwidth), LAUNCH * shape.layers)
    return ceil(own / rows) * (beginnings + written.completion * token)


def exchanged(work: Work, sharding: Sharding) -> float:
    """Bytes that a rank sends in a step. Gradients: ddp sums them once, which is twice their size; what divides them
    sends them once, ZeRO-2 and 3 in each micro-batch. Weights: divided after the update, once; in each pass of each
    micro-batch, there and back, where they are divided themselves, and once more to be written with."""
    if work.ranks == 1:
        return 0.0
    micro, total = work.micro_batches, 0.0
    for model in learners(work):
        if sharding.weights:
            total += micro * 2 * parts.weights(model)
        elif sharding.moments:
            total += parts.gradients(model)
        often = micro if sharding.gradients and sharding.engine == "DeepSpeed" else 1
        total += parts.gradients(model) * (often if sharding.moments else 2)
    passed = micro * sum(parts.weights(model) for model in work.scored if sharding.divides(model))
    if work.written is not None and work.written.here and sharding.weights:
        total += parts.weights(work.policy) / work.written.steps
    return (total + passed) * (work.ranks - 1) / work.ranks

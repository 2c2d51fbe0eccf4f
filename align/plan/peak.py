"""What stands in a rank's memory at the same time, phase by phase: the largest sum is the peak."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from align.plan import parts
from align.plan.sharding import Sharding, away, buffers, flattened, held_gradients, held_moments, held_weights, masters
from align.plan.work import Model, Work

UPDATE, WRITING, SCORING = "the update", "writing", "scoring"


@dataclass(frozen=True)
class Memory:
    """Of one rank, in bytes."""

    parts: dict[str, float]  # the largest that each becomes
    phases: dict[str, float]  # what stands at the same time in each
    away: float = 0.0  # in the main memory

    @property
    def peak(self) -> float:
        return max(self.phases.values())

    @property
    def phase(self) -> str:
        return max(self.phases, key=lambda phase: self.phases[phase])


def memory(work: Work, sharding: Sharding) -> Memory:
    phases = dict(_phases(work, sharding))
    found: dict[str, float] = {}
    for held in phases.values():
        for part, size in held.items():
            found[part] = max(found.get(part, 0.0), size)
    shown = {part: size for part, size in found.items() if size}
    elsewhere = sum(away(model, sharding, work.ranks) for model in [*learners(work), *work.frozen])
    return Memory(shown, {phase: sum(held.values()) for phase, held in phases.items()}, elsewhere)


def learners(work: Work) -> list[Model]:
    """In the order in which they learn."""
    return [model for model in (work.policy, work.critic, work.twin) if model is not None]


def _phases(work: Work, sharding: Sharding) -> Iterator[tuple[str, dict[str, float]]]:
    always = dict(_always(work, sharding))
    grown = {name_of(m, "gradients"): held_gradients(m, sharding, work) for m in learners(work)}
    learning = always | {"exchange": sum(buffers(work, m, sharding) for m in learners(work))}
    for which, there in (("first", {}), ("next", grown)):
        for where, passed in _passed(work).items():
            if which == "first" or work.micro_batches > 1:
                yield f"{where} of the {which} micro-batch", learning | there | passed
    yield UPDATE, learning | grown | {"update": sum(flattened(m, sharding, work.ranks) for m in learners(work))}
    if work.written is not None and work.written.here:
        yield WRITING, always | _writing(work, sharding)
    if work.scored:
        passing = max(parts.passing(work, m) for m in work.scored)
        yield SCORING, always | {"logits": parts.logits(work, work.policy), "a layer under way": passing}


def _always(work: Work, sharding: Sharding) -> Iterator[tuple[str, float]]:
    """Weights, and what the optimisers remember."""
    for model in learners(work):
        yield name_of(model, "weights"), held_weights(model, sharding, work.ranks)
        yield name_of(model, f"{work.optimizer} states"), held_moments(model, sharding, work.ranks)
        yield name_of(model, "float32 masters"), masters(model, sharding, work.ranks)
    for model in work.frozen:
        yield model.words, held_weights(model, sharding, work.ranks)


def _passed(work: Work) -> dict[str, dict[str, float]]:
    """What is made in a micro-batch: when the policy's head has been reached; when its critic has gone through it, too,
    and the way back begins; and in the last layer on that way. Twins go through it each for itself."""
    policy = work.policy
    alone = dict(_kept(work, [policy]))
    together = dict(_kept(work, [model for model in (policy, work.critic) if model is not None]))
    back = {"logits": parts.slopes(work, policy), "gradient of the head": parts.head_gradient(policy)}
    return {
        "the head": alone | {"logits": parts.logits(work, policy)},
        "the way back": together | back,
        "the last layer": together | {"a layer under way": parts.returning(work, policy)},
    }


def _kept(work: Work, models: list[Model]) -> Iterator[tuple[str, float]]:
    yield "activations", sum(parts.kept(work, model) for model in models)
    yield "weights as multiplied", sum(parts.multiplied(model, work) for model in models)


def _writing(work: Work, sharding: Sharding) -> dict[str, float]:
    """The policy writes with whole weights, also where they are divided."""
    written, policy = work.written, work.policy
    assert written is not None
    whole = parts.weights(policy) if sharding.divides(policy) else 0.0
    return {
        "weights gathered to write": whole,
        "weights as multiplied": parts.lowered(policy, work),
        "cache of keys and values": parts.cache(written, work, policy.shape),
        "chances of the next token": parts.drawing(written, work, policy.shape),
    }


def name_of(model: Model, part: str) -> str:
    return part if model.words == "policy" else f"{model.words}: {part}"

"""Which sharding to take, and where none fits: which changes of the recipe bring it below the memory that there is."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from align.models.settings import LoraSection
from align.plan.peak import Memory, memory
from align.plan.sharding import OFFLOADED, SHARDINGS, Sharding
from align.plan.speed import Machine, Step, step_of
from align.plan.work import Asked, Work, work_of
from align.recipe.load import Recipe
from align.recipe.online import is_online
from align.recipe.sharding import mistakes

OVERHEAD = 1.5e9  # bytes of a GPU for its context, libraries and NCCL
FEW_ROWS = 16  # completions side by side, where there is no room for more
GAPS = 0.05  # of a GPU's memory that lies between what is allocated


@dataclass(frozen=True, kw_only=True)
class Outlook:
    """What a recipe comes to under one sharding."""

    sharding: Sharding
    memory: Memory
    step: Step


@dataclass(frozen=True)
class Place:
    """What there is to run on."""

    asked: Asked
    bytes: float  # of a GPU's memory
    machine: Machine

    @property
    def room(self) -> float:
        """What is left for a run."""
        return self.bytes * (1 - GAPS) - OVERHEAD


@dataclass(frozen=True)
class Change:
    """Something that needs less memory."""

    words: str  # as they stand on a command line
    cost: str
    made: Callable[[Recipe, Asked], tuple[Recipe, Asked]]


def outlooks(recipe: Recipe, work: Work, place: Place) -> list[Outlook]:
    """Of each sharding that the recipe may have; those that keep something in the main memory where no other fits. Of
    one process alone of the one that divides nothing."""
    if work.ranks == 1:
        return [outlook(work, SHARDINGS["ddp"], place)]
    found = [outlook(work, s, place) for s in SHARDINGS.values() if not any(mistakes(recipe, s.name))]
    if any(one.memory.peak <= place.room for one in found):
        return found
    allowed = {one.sharding.options for one in found}
    beside = [s for s in OFFLOADED if s.options.partition(" --offload")[0] in allowed]
    return [*found, *(outlook(work, sharding, place) for sharding in beside)]


def outlook(work: Work, sharding: Sharding, place: Place) -> Outlook:
    return Outlook(sharding=sharding, memory=memory(work, sharding), step=step_of(work, sharding, place.machine))


def cheapest(found: list[Outlook], room: float) -> Outlook | None:
    """The shortest step among those that fit; of equal ones the first, which divides the least."""
    fitting = [one for one in found if one.memory.peak <= room]
    return min(fitting, key=lambda one: round(one.step.seconds, 6)) if fitting else None


def least(recipe: Recipe, asked: Asked, place: Place) -> Outlook:
    """The shortest step of the shardings that fit, or the one that needs the least memory."""
    work = work_of(recipe, asked)
    assert work is not None
    found = outlooks(recipe, work, place)
    return cheapest(found, place.room) or min(found, key=lambda one: one.memory.peak)


def changes(recipe: Recipe, work: Work) -> Iterator[Change]:
    """In the order of what they cost; those that the recipe has already are left out."""
    if work.at_once > 1:
        tokens = work.group_tokens
        yield Change(f"training.max_tokens={tokens}", "time", _with("training", max_tokens=tokens))
    if not work.checkpointed:
        words = "training.gradient_checkpointing=true"
        yield Change(words, "a third more computing", _with("training", gradient_checkpointing=True))
    if work.written is not None and work.written.here:
        if work.written.rows > FEW_ROWS:
            words = f"rollout.max_rows={FEW_ROWS}"
            yield Change(words, "time to write", _with("rollout", max_rows=FEW_ROWS))
        yield Change("rollout.engine=vllm", "GPUs of its own", _with("rollout", engine="vllm"))
    if not is_online(type(recipe.method)) and any(m.words == "reference" for m in work.frozen):
        yield Change("model.reference=cached", "a pass over the data before", _with("model", reference="cached"))
    if recipe.model.dtype not in ("bfloat16", "float16"):
        cost = "small updates are rounded away, but by ZeRO"
        yield Change("model.dtype=bfloat16", cost, _with("model", dtype="bfloat16"))
    if recipe.model.lora is None and work.critic is None:
        yield Change("model.lora={r: 16}", "the rank of what is learned", _with("model", lora=LoraSection()))
    half = recipe.data.max_length // 2
    yield Change(f"data.max_length={half}", "longer rows are left out", _with("data", max_length=half))
    yield Change(f"--gpus {2 * work.ranks}", "twice the GPUs", _twice)


def together(recipe: Recipe, place: Place, wanted: list[Change]) -> tuple[list[Change], Outlook]:
    """The changes that lead to a fit, one after the other as listed, without those that bring nothing; all that help
    where they do not lead there."""
    asked, taken, best = place.asked, list[Change](), least(recipe, place.asked, place)
    for change in wanted:
        if best.memory.peak <= place.room:
            break
        tried = change.made(recipe, asked)
        after = least(*tried, place)
        if after.memory.peak < 0.98 * best.memory.peak:
            (recipe, asked), best = tried, after
            taken.append(change)
    return taken, best


def _with(section: str, **values: object) -> Callable[[Recipe, Asked], tuple[Recipe, Asked]]:
    def made(recipe: Recipe, asked: Asked) -> tuple[Recipe, Asked]:
        changed = dataclasses.replace(getattr(recipe, section), **values)
        return dataclasses.replace(recipe, **{section: changed}), asked

    return made


def _twice(recipe: Recipe, asked: Asked) -> tuple[Recipe, Asked]:
    return recipe, dataclasses.replace(asked, ranks=2 * asked.ranks)

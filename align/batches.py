"""What flows: token groups from the data to the models, typed batches from the models to the methods.

Axes, everywhere in this project:

    B  sequences, or pairs of them     T  completion tokens (never prompt tokens)
    P  prompts                         G  completions of one prompt, B = P * G

A method's batch type is the whole list of its needs: members (which sequences a row of the loss reads) times columns
(what is known about each of their tokens). Bare column names are the trained model now, with gradient; prefixed ones
(`ref_`, `old_`, `sampler_`, `guide_`, ...) are stored numbers without one. The prefix names the role that made them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from operator import attrgetter
from typing import Any, ClassVar, Generic, Literal, TypeVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

LIVE_COLUMNS = ("logps", "entropies", "hits", "values", "scores")  # made by the trained model in the step itself
SEQUENCE_COLUMNS = ("scores",)  # (B,) instead of (B, T)
BY_POLICY = "policy"  # who writes, where nobody else is named


# ---- tokens ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Tokens:
    """One sequence: a prompt, and a completion whose tokens count where `mask` is True."""

    prompt: np.ndarray  # (prompt length,) int32, at least one token
    completion: np.ndarray  # (T,) int32
    mask: np.ndarray  # (T,) bool, True on tokens to learn from

    def __len__(self) -> int:
        return len(self.prompt) + len(self.completion)


@dataclass(frozen=True, slots=True)
class Group:
    """The sequences that one row of a loss needs together, in the order of the batch type's members."""

    members: tuple[Tokens, ...]
    row: dict[str, float]  # the row's own numbers: label, margin, ...
    index: int  # which row of the prepared data set this is


@dataclass(frozen=True, slots=True)
class Ask:
    """More completions of the prompt of a row, to be rewarded; learned from only where that is said."""

    row: int
    count: int = 1
    greedy: bool = False
    given: int = 0  # tokens of the row's completion that they all begin with
    hint: int = 0  # which of the row's hints, counted from 1, the prompt is told; 0: none
    learned: bool = False
    writer: str = BY_POLICY  # or one of the method's `writers`, a copy of the policy that moves


# ---- columns --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Member:
    """A sequence per row. Every subclass adds columns."""

    mask: Bool[Tensor, "B T"]  # True = keep

    def __post_init__(self):
        for name, column in vars(self).items():
            if name not in LIVE_COLUMNS and column.requires_grad:
                raise ValueError(f"stored column {name} carries a gradient; only {', '.join(LIVE_COLUMNS)} may")


@dataclass(frozen=True, kw_only=True)
class Sequences(Member):
    """log pi(token | what precedes it) under the trained model."""

    logps: Float[Tensor, "B T"]


@dataclass(frozen=True, kw_only=True)
class Watched(Sequences):
    """What SFT reports beside its loss: the predictive entropy (nats), and whether the likeliest token was right."""

    entropies: Float[Tensor, "B T"]
    hits: Bool[Tensor, "B T"]


@dataclass(frozen=True, kw_only=True)
class Referenced(Sequences):
    """The same tokens under the frozen reference."""

    ref_logps: Float[Tensor, "B T"]


@dataclass(frozen=True, kw_only=True)
class Sampled(Sequences):
    """What the policy wrote: its log-probabilities then, by this model and by the engine; its entropy now (nats)."""

    old_logps: Float[Tensor, "B T"]
    sampler_logps: Float[Tensor, "B T"]
    entropies: Float[Tensor, "B T"]


@dataclass(frozen=True, kw_only=True)
class Anchored(Sampled):
    """With the log-probabilities of the frozen reference."""

    ref_logps: Float[Tensor, "B T"]


@dataclass(frozen=True, kw_only=True)
class Valued(Sampled):
    """With the critic's value of the state before each token: now, and when the completion was written."""

    values: Float[Tensor, "B T"]
    old_values: Float[Tensor, "B T"]


@dataclass(frozen=True, kw_only=True)
class AnchoredValued(Anchored, Valued):
    """With the log-probabilities of the frozen reference, and the critic's values."""


@dataclass(frozen=True, kw_only=True)
class Scored(Member):
    """The scalar head at the last token."""

    scores: Float[Tensor, " B"]


@dataclass(frozen=True, kw_only=True)
class Stored(Member):
    """Never learned from: the policy as it was before the step, and the reference."""

    old_logps: Float[Tensor, "B T"]
    ref_logps: Float[Tensor, "B T"]


# ---- members --------------------------------------------------------------------------------------------------------

C = TypeVar("C", bound=Member)
SomeBatch = TypeVar("SomeBatch", bound="Batch")  # beartype knows no typing.Self in a method
RowKind = Literal["demonstrations", "pairs", "unpaired", "prompts"]


def from_row(name: str, default: float | None = None) -> Any:
    """A number of the data row, (B,). A default is the value that means the same as its absence."""
    return field(metadata={"row": name, "default": default})


def of_completion(name: str, make: Callable[[Any], float], default: float | None = None) -> Any:
    """A number of a completion that was written, (B,): what `make` reads off it, an `align.needs.Harvested`."""
    return field(metadata={"row": name, "default": default, "make": make})


def prepared() -> Any:
    """A number per row or per token, zero until the loop or the method, in `prepare` or `advantages`, fills it in."""
    return field(metadata={"prepared": True})


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Base of the batch types; a subclass names members, and numbers of the data row."""

    kind: ClassVar[RowKind]  # what the rows of the data set must be
    divisible: ClassVar[bool] = False  # whether a row is one completion of a prompt that others answer too
    together: ClassVar[bool] = False  # whether the rows of one prompt must then be computed in one micro-batch
    stepwise: ClassVar[bool] = False  # whether completions are cut into steps: it has `states`, `estimates` (B, T)
    hinted: ClassVar[bool] = False  # whether the hints of a prompt are told where its completions fail
    windowed: ClassVar[bool] = False  # whether a completion may go on in the next experience

    @classmethod
    def arrange(cls, groups: Sequence[Group]) -> list[Group]:
        """Adds the auxiliary members, which are made of other rows of the same step. Most types have none."""
        return list(groups)

    def __len__(self) -> int:
        first = next(value for value in vars(self).values() if isinstance(value, Member))
        return len(first.mask)

    def map(self: SomeBatch, change: Callable[[Tensor], Tensor]) -> SomeBatch:
        """The same batch with every tensor replaced by `change(tensor)`."""

        def apply(value: Any) -> Any:
            if isinstance(value, Tensor):
                return change(value)
            return dataclasses.replace(value, **{f.name: apply(getattr(value, f.name)) for f in fields(value)})

        return dataclasses.replace(self, **{f.name: apply(getattr(self, f.name)) for f in fields(self)})

    def to(self: SomeBatch, device: torch.device) -> SomeBatch:
        return self.map(lambda tensor: tensor.to(device))

    def select(self: SomeBatch, rows: Tensor) -> SomeBatch:
        """The given rows (int64 indices), in the given order."""
        return self.map(lambda tensor: tensor[rows])


@dataclass(frozen=True, kw_only=True)
class Demonstrations(Batch, Generic[C]):
    """One completion per prompt, to be imitated."""

    kind = "demonstrations"

    completion: C


@dataclass(frozen=True, kw_only=True)
class Pairs(Batch, Generic[C]):
    """Two completions of one prompt, the first preferred."""

    kind = "pairs"

    chosen: C
    rejected: C


@dataclass(frozen=True, kw_only=True)
class GradedPairs(Pairs[C], Generic[C]):
    """Pairs with a margin by which chosen should win, and the probability that it is the better one."""

    margins: Float[Tensor, " B"] = from_row("margin", default=0.0)
    soft_labels: Float[Tensor, " B"] = from_row("soft_label", default=1.0)


@dataclass(frozen=True, kw_only=True)
class Judged(Batch, Generic[C]):
    """One completion with a verdict, and the same prompt with an answer that was given to another one."""

    kind = "unpaired"

    completion: C
    mismatched: Stored
    labels: Bool[Tensor, " B"] = from_row("label")  # True = desirable
    baseline: Float[Tensor, " B"] = prepared()

    @classmethod
    def arrange(cls, groups: Sequence[Group]) -> list[Group]:
        """Gives each prompt the answer of the next row whose prompt differs; masked out where there is none."""
        return [dataclasses.replace(g, members=(*g.members, _mismatched(groups, i))) for i, g in enumerate(groups)]


@dataclass(frozen=True, kw_only=True)
class Rollouts(Batch, Generic[C]):
    """Completions that the policy wrote, one a row; those of one prompt stand side by side."""

    kind = "prompts"
    divisible = True

    completion: C
    groups: Int[Tensor, " B"] = of_completion("group", attrgetter("group"))  # which prompt, from 0 in this experience
    rewards: Float[Tensor, " B"] = of_completion("reward", attrgetter("reward"))  # of the reward functions, shaped
    earned: Float[Tensor, " B"] = of_completion("earned", attrgetter("earned"))  # before `reward.shape`
    auxiliary: Bool[Tensor, " B"] = of_completion("auxiliary", attrgetter("written.auxiliary"), 0.0)  # by `resample`
    advantages: Float[Tensor, "B T"] = prepared()

    @property
    def fresh(self) -> Bool[Tensor, "B T"]:
        """The tokens that were written in this experience."""
        return self.completion.mask

    @property
    def ended(self) -> Bool[Tensor, " B"]:
        """Completions that will not go on in the next one."""
        return torch.ones(len(self), dtype=torch.bool)


@dataclass(frozen=True, kw_only=True)
class Rivals(Rollouts[C], Generic[C]):
    """Completions whose loss compares those of one prompt."""

    together = True


@dataclass(frozen=True, kw_only=True)
class CriticRollouts(Rollouts[C], Generic[C]):
    """With what the critic is to learn."""

    returns: Float[Tensor, "B T"] = prepared()


def _mismatched(groups: Sequence[Group], i: int) -> Tokens:
    """The prompt with the next row's completion that belongs to another one; no longer than the longest row."""
    own = groups[i].members[0]
    room = max(len(group.members[0]) for group in groups) - len(own.prompt)
    for step in range(1, len(groups)):
        other = groups[(i + step) % len(groups)].members[0]
        if len(other.completion) <= room and not np.array_equal(other.prompt, own.prompt):
            return Tokens(own.prompt, other.completion, other.mask)
    return Tokens(own.prompt, own.completion, np.zeros_like(own.mask))

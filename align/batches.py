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
from typing import Any, ClassVar, Generic, Literal, TypeVar, get_args, get_origin, get_type_hints

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

LIVE_COLUMNS = ("logps", "entropies", "hits", "values", "scores")  # made by the trained model in the step itself
SEQUENCE_COLUMNS = ("scores",)  # (B,) instead of (B, T)


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
RowKind = Literal["demonstrations", "pairs", "unpaired"]


def from_row(name: str, default: float | None = None) -> Any:
    """A number of the data row, (B,). A default is the value that means the same as its absence."""
    return field(metadata={"row": name, "default": default})


def prepared() -> Any:
    """A number per row that the method's own `prepare` fills in; zero until then."""
    return field(metadata={"prepared": True})


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Base of the batch types; a subclass names members, and numbers of the data row."""

    kind: ClassVar[RowKind]  # what the rows of the data set must be

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

    def select(self: SomeBatch, rows: Tensor) -> SomeBatch:
        """The given rows (int64 indices), in the given order."""

        def pick(tensor: Tensor) -> Tensor:
            return tensor[rows]

        return self.map(pick)


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


def _mismatched(groups: Sequence[Group], i: int) -> Tokens:
    own = groups[i].members[0]
    for step in range(1, len(groups)):
        other = groups[(i + step) % len(groups)].members[0]
        if not np.array_equal(other.prompt, own.prompt):
            return Tokens(own.prompt, other.completion, other.mask)
    return Tokens(own.prompt, own.completion, np.zeros_like(own.mask))


# ---- what a batch type asks for -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Needs:
    """A batch type, read as a list: members with their columns, numbers of the data row, numbers made by `prepare`."""

    batch: type[Batch]
    members: dict[str, type[Member]]
    rows: dict[str, tuple[str, float | None]]  # field -> (data column, default)
    prepared: tuple[str, ...]

    def live(self, member: str) -> tuple[str, ...]:
        """Columns of this member that the trained model makes, in the step."""
        return tuple(c for c in columns(self.members[member]) if c in LIVE_COLUMNS)

    def stored(self, member: str) -> tuple[str, ...]:
        """Columns of this member that are made before the step and kept."""
        return tuple(c for c in columns(self.members[member]) if c not in LIVE_COLUMNS)

    def learned(self) -> tuple[str, ...]:
        """The members that the trained model runs over with gradient."""
        return tuple(m for m in self.members if self.live(m))

    def roles(self) -> tuple[str, ...]:
        """The prefixes of all stored columns: which models other than the trained one must be there."""
        return tuple(sorted({c.split("_")[0] for m in self.members for c in self.stored(m)}))


def columns(member: type[Member]) -> tuple[str, ...]:
    return tuple(f.name for f in fields(member) if f.name != "mask")


def needs_of(batch_type: Any) -> Needs:
    """Reads `Pairs[Referenced]` and its like."""
    origin: type[Batch] = get_origin(batch_type) or batch_type
    arguments = get_args(batch_type)
    hints = get_type_hints(origin)
    members: dict[str, type[Member]] = {}
    rows: dict[str, tuple[str, float | None]] = {}
    made: list[str] = []
    for f in fields(origin):
        hint = arguments[0] if isinstance(hints[f.name], TypeVar) else hints[f.name]
        if isinstance(hint, type) and issubclass(hint, Member):
            members[f.name] = hint
        elif "row" in f.metadata:
            rows[f.name] = (f.metadata["row"], f.metadata["default"])
        else:
            assert "prepared" in f.metadata, f"{origin.__name__}.{f.name} is neither a member nor a number of the row"
            made.append(f.name)
    return Needs(origin, members, rows, tuple(made))


def empty_batch(needs: Needs, groups: Sequence[Group], stored: dict[tuple[str, str], Tensor]) -> Any:
    """The whole experience as a batch: masks, row numbers, `stored[member, column]`; live columns are zeros.

    `groups` are arranged already: their members follow the order of the batch type.
    """
    made: dict[str, Any] = {}
    for position, (name, member) in enumerate(needs.members.items()):
        mask = stack([g.members[position].mask for g in groups])
        values: dict[str, Tensor] = {}
        for column in columns(member):
            if column in LIVE_COLUMNS:
                shape = (len(groups),) if column in SEQUENCE_COLUMNS else tuple(mask.shape)
                values[column] = torch.zeros(shape, dtype=torch.bool if column == "hits" else torch.float32)
            else:
                values[column] = stored[name, column]
        made[name] = member(mask=mask, **values)
    for name, (column, default) in needs.rows.items():
        numbers = torch.tensor([g.row.get(column, default) for g in groups], dtype=torch.float32)
        made[name] = numbers > 0.5 if name == "labels" else numbers
    for name in needs.prepared:
        made[name] = torch.zeros(len(groups))
    return needs.batch(**made)


def stack(rows: Sequence[np.ndarray], width: int | None = None) -> Tensor:
    """Rows of unequal length as one tensor, zeros (False) at the right."""
    width = max((len(r) for r in rows), default=0) if width is None else width
    out = np.zeros((len(rows), width), dtype=rows[0].dtype)
    for i, row in enumerate(rows):
        out[i, : len(row)] = row
    return torch.as_tensor(out)

"""A batch type read as a list of needs, and the tensors that stand in it before the model has run.

Shapes and dtypes are those of the annotations: `Float[Tensor, "B T"]` is a number per token, `Bool[Tensor, " B"]` a
truth value per row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import numpy as np
import torch
from torch import Tensor

from align.batches import BY_POLICY, LIVE_COLUMNS, Batch, Group, Member

SOURCE = "(source)"  # of a row, as a number: which one of `data.train` it is of, from 0; no column of the data


@dataclass(frozen=True)
class Harvested:
    """A completion that was written and judged, as its numbers are made of it."""

    written: Any  # an `align.rollout.writer.Trajectory`: row, tokens, text, stop, rewards, ...
    group: int  # which prompt, counted from 0 in this experience
    reward: float  # weighted sum of the reward functions, shaped; 0 of a completion that goes on
    earned: float  # that sum before `reward.shape`: what the answer itself is worth
    origin: int  # of an auxiliary one the state that it begins with, where states are counted; else 0


@dataclass(frozen=True)
class Needs:
    """Members with their columns, numbers of the data row, numbers that the method itself prepares."""

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

    def of_role(self, role: str) -> dict[str, tuple[str, ...]]:
        """Member -> what the role makes of it, by the live name: `old_values` is role `old`'s `values`."""
        made = {m: tuple(live for r, live in map(made_by, self.stored(m)) if r == role) for m in self.members}
        return {m: names for m, names in made.items() if names}

    def learned(self) -> tuple[str, ...]:
        """The members that the trained model runs over with gradient."""
        return tuple(m for m in self.members if self.live(m))

    def live_columns(self) -> dict[str, tuple[str, ...]]:
        """Member -> what the trained model is asked for in a step."""
        return {m: self.live(m) for m in self.learned()}

    def numbers(self) -> tuple[str, ...]:
        """Number columns of the data; what a completion earns is none of them, nor where a row comes from."""
        if self.batch.kind == "prompts":
            return ()
        return tuple(column for column, _ in self.rows.values() if column != SOURCE)

    def of_completions(self) -> dict[str, Callable[[Harvested], float]]:
        """Number column -> who makes it of a completion that was written."""
        return {f.metadata["row"]: f.metadata["make"] for f in fields(self.batch) if "make" in f.metadata}

    def roles(self) -> tuple[str, ...]:
        """The prefixes of all stored columns: who, other than the trained model, must be there."""
        return tuple(sorted({made_by(c)[0] for m in self.members for c in self.stored(m)} - {""}))

    def unknown(self) -> tuple[str, ...]:
        """Columns that are neither live nor a role's: nobody can make them."""
        found = dict.fromkeys(c for m in self.members for c in self.stored(m) if made_by(c) == ("", ""))
        return tuple(found)


def made_by(column: str) -> tuple[str, str]:
    """(role, live name) of a stored column: `guide_ref_logps` is role `guide_ref`'s `logps`; empty where it is none."""
    for live in LIVE_COLUMNS:
        if column.endswith(f"_{live}") and (role := column.removesuffix(f"_{live}")):
            return role, live
    return "", ""


def columns(member: type[Member]) -> tuple[str, ...]:
    return tuple(f.name for f in fields(member) if f.name != "mask")


def needs_of(batch_type: Any) -> Needs:
    """Reads `Pairs[Referenced]` and its like. TypeError where it is none of them."""
    origin: type[Batch] = get_origin(batch_type) or batch_type
    if not (isinstance(origin, type) and issubclass(origin, Batch)):
        raise TypeError(f"its batch type is {batch_type}, which is no subclass of align.batches.Batch")
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
        elif "prepared" in f.metadata:
            made.append(f.name)
        else:
            wanted = "a subclass of align.batches.Member, from_row(...), of_completion(...) or prepared()"
            raise TypeError(f"{origin.__name__}.{f.name} is {getattr(hint, '__name__', hint)}; expected {wanted}")
    return Needs(origin, members, rows, tuple(made))


def empty_batch(needs: Needs, groups: Sequence[Group], stored: dict[tuple[str, str], Tensor]) -> Any:
    """The whole experience as a batch: masks, row numbers, `stored[member, column]`; live columns are zeros.

    `groups` are arranged already: their members follow the order of the batch type.
    """
    made: dict[str, Any] = {}
    width = 0
    for position, (name, member) in enumerate(needs.members.items()):
        mask = stack([g.members[position].mask for g in groups])
        width = width or mask.shape[1]
        hints = get_type_hints(member)
        zeros = {c: blank(hints[c], *mask.shape) for c in needs.live(name)}
        made[name] = member(mask=mask, **zeros, **{c: stored[name, c] for c in needs.stored(name)})
    hints = get_type_hints(needs.batch)
    for name, (column, default) in needs.rows.items():
        numbers = torch.tensor([g.row.get(column, default) for g in groups], dtype=torch.float32)
        made[name] = numbers.to(blank(hints[name], 0, 0).dtype)
    for name in needs.prepared:
        made[name] = blank(hints[name], len(groups), width)
    return needs.batch(**made)


def flattened(batch: Any) -> dict[str, Tensor]:
    """Every tensor of a batch by its name: `completion.logps`, `rewards`."""
    found: dict[str, Tensor] = {}
    for name, value in vars(batch).items():
        found |= {name: value} if isinstance(value, Tensor) else {f"{name}.{c}": t for c, t in vars(value).items()}
    return found


def rebuilt(needs: Needs, tensors: dict[str, Tensor]) -> Any:
    """The batch that `flattened` took apart."""
    members = {m: cls(**{c: tensors[f"{m}.{c}"] for c in ("mask", *columns(cls))}) for m, cls in needs.members.items()}
    return needs.batch(**members, **{name: tensors[name] for name in (*needs.rows, *needs.prepared)})


def blank(hint: Any, rows: int, width: int) -> Tensor:
    """Zeros as an annotation has them: (rows,) or (rows, width); float32, int64 or bool."""
    kinds = str(hint.dtypes)
    dtype = torch.bool if "bool" in kinds else torch.float32 if "float" in kinds else torch.int64
    return torch.zeros((rows, width) if "T" in hint.dim_str.split() else (rows,), dtype=dtype)


def stack(rows: Sequence[np.ndarray], width: int | None = None) -> Tensor:
    """Rows of unequal length as one tensor, zeros (False) at the right."""
    width = max((len(r) for r in rows), default=0) if width is None else width
    out = np.zeros((len(rows), width), dtype=rows[0].dtype)
    for i, row in enumerate(rows):
        out[i, : len(row)] = row
    return torch.as_tensor(out)


# ---- weights that move -----------------------------------------------------------------------------------------------

When = Literal["before writing", "before learning", "after step"]
How = Literal["copy", "average", "extrapolate", "take", "put back", "begin again"]
Unit = Literal["step", "experience"]
LEARNS = BY_POLICY  # who learns, among those who move


@dataclass(frozen=True)
class Move:
    """What happens to weights between steps. Steps are counted from 0, and a move is made in those that `at` leaves
    over when divided by `every`: every=50, at=49 ends each fifty of them. Likewise experiences, where these are the
    `unit`: then the two moments before are those of their first step, and `after step` is that of their last.

        copy, average   of a role that follows the policy: it becomes it, or goes `rate` of the way towards it
                        (of an adapter the factors do, whose product is then not the average of products)
        extrapolate     the policy goes on by `rate` times the way from its last extrapolation's start, or the run's
        take, put back  the learners' weights and moments are kept, and later put back: a trial step
        begin again     the policy's moments, and the steps that they count, are those of a new optimiser
    """

    role: str  # `policy`, or a copy: the prefix of the columns that it makes, or one of the method's `writers`
    how: How
    when: When
    rate: float = 1.0
    every: int = 1
    at: int = 0
    unit: Unit = "step"

    def __post_init__(self):
        of_policy = self.how not in ("copy", "average")
        if of_policy != (self.role == LEARNS):
            raise ValueError(f"a move {self.how} is of {LEARNS if of_policy else 'a copy'}, not of {self.role}")
        if not 0 <= self.at < self.every:
            raise ValueError(f"a move is at {self.unit} {self.at} of every {self.every}; expected 0 or more below that")
        if not 0 <= self.rate <= 1 or (self.how == "extrapolate" and self.rate == 1):
            raise ValueError(f"a move {self.how} has the rate {self.rate}; expected 0 to 1, of a jump below 1")

    def due(self, step: int, lasting: int) -> bool:
        """In this step, where experiences last for `lasting` steps each."""
        number, within = (step, 0) if self.unit == "step" else divmod(step, lasting)
        moment = lasting - 1 if self.unit == "experience" and self.when == "after step" else 0
        return within == moment and number % self.every == self.at


@dataclass(frozen=True)
class Pull:
    """In every step, before the policy's gradients are clipped: gradient <- gradient + rate (weights - anchor).

    It is the slope of rate / 2 |weights - anchor|^2. The anchor is a copy of the policy: what the moves make of it, or
    the policy before the first step where none names it.
    """

    towards: str
    rate: float

    def __post_init__(self):
        if self.towards == LEARNS or self.rate < 0:
            raise ValueError(f"a pull towards {self.towards} has the rate {self.rate}; expected a copy, and 0 or more")


def jumps(method: Any) -> bool:
    """Whether the policy is ever extrapolated."""
    return any(move.how == "extrapolate" for move in method.moves())


def beside_jumps(method: Any) -> str:
    """What of a method's moves an adapter that jumps does not take part in; empty where there is nothing."""
    others = dict.fromkeys(move.how for move in method.moves() if move.how not in ("extrapolate", "begin again"))
    return ", ".join(others) if jumps(method) else ""


def copies_of(method: Any) -> tuple[str, ...]:
    """The roles that are copies of the policy: they follow it, or it is pulled towards them."""
    moved = [move.role for move in method.moves() if move.role != LEARNS]
    return tuple(dict.fromkeys([*moved, *(pull.towards for pull in method.pulls())]))


# ---- rounds ----------------------------------------------------------------------------------------------------------

BEGIN_AGAIN = Move(LEARNS, "begin again", when="before writing", unit="experience")


def of_round(default: float) -> Any:
    """A knob of a method with rounds: a number, or a tuple with one for each round."""
    return field(default=default, metadata={"of_round": True})


def in_round(knob: float | tuple[float, ...], number: float) -> float:
    """What the knob is in this round, counted from 0."""
    return knob[int(number)] if isinstance(knob, tuple) else knob


def knobs_of_rounds(method: Any) -> dict[str, tuple[float, ...]]:
    """The knobs that have a number for each round."""
    found = {f.name: getattr(method, f.name) for f in fields(method) if "of_round" in f.metadata}
    return {name: values for name, values in found.items() if isinstance(values, tuple)}


# ---- who learns from what -------------------------------------------------------------------------------------------

TRAIN, TRUSTED = "train", "trusted"  # streams of rows
CRITIC, TWIN, SOURCES = "critic", "twin", "sources"  # who may learn beside the policy


@dataclass(frozen=True)
class Levels:
    """What a method over two levels has a run make beside the policy and the rows of `data.train`.

    The twin is a copy of the policy that begins as it does and learns by lessons of its own. The sources are one number
    for each source of `data.train`, the logits of its weight, whose slopes the method works out of what the lessons of
    a step have told.
    """

    trusted_rows: int  # of `data.trusted`, in each step
    weights_rate: float  # learning rate of the logits
    twin_rate: float = 0.0  # of the twin; 0: the policy's
    scale: float = 1.0  # by which gradients are larger than those of a plain loss: max_grad_norm is multiplied by it


@dataclass(frozen=True)
class Lesson:
    """What one learner is taught in a step. All gradients of a step are taken before anyone's weights change."""

    learner: str  # `policy`, or who learns beside it
    stream: str  # whose rows: `train` or `trusted`
    loss: Callable[[Any], Any]  # of a batch; gives an `align.methods.base.Loss`
    weight: float = 1.0  # of that loss in this learner's gradient
    prefix: str = ""  # before the names of its metrics

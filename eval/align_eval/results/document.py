"""results.json: every number with its interval, the method that made it and on how much it rests.

`Results` is the whole document; its fields are the keys of the file. A section without rows is absent. Rates are
shares between 0 and 1; a rating is in Elo points; lengths are in characters.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from align_eval.statistics.estimate import Estimate

SCHEMA = 1  # of the file; raised when a reader of the old one would misread the new one


@dataclass(frozen=True, kw_only=True)
class Ranked:
    """A model's place on the leaderboard."""

    rank: int
    model: str
    rating: Estimate
    win_rate: Estimate
    tied_with: list[str] = field(default_factory=list)  # models that it cannot be told from
    mean_length: Estimate | None = None
    n: int = 0  # verdicts


@dataclass(frozen=True, kw_only=True)
class Pair:
    """What one judge said of two models; counts are of items and of `a`, halves where two orders disagree."""

    a: str
    b: str
    judge: str = ""
    category: str = ""  # empty: all of them
    wins: float
    ties: float
    losses: float
    missing: int = 0
    win_rate: Estimate  # of a over b, a tie counting one half
    lc_win_rate: Estimate | None = None  # length-controlled
    tests: dict[str, float | None] = field(default_factory=dict)  # p-values by test
    adjusted: dict[str, float | None] = field(default_factory=dict)  # p-values adjusted over the whole table
    family: int = 0  # so many p-values, of this and of earlier commands; those of categories are a family of their own
    detectable: float | None = None  # the smallest distance from 1/2 that so many items would show
    noise_floor: Estimate | None = None  # how far the same pairs come out apart when judged twice


@dataclass(frozen=True, kw_only=True)
class Styled:
    """A model's rating, and what it is where the style of answers is taken out."""

    model: str
    judge: str
    rating: Estimate
    controlled: Estimate
    moved: Estimate  # controlled less rating


@dataclass(frozen=True, kw_only=True)
class Effect:
    """What one standard deviation more of a feature of style earns with a judge."""

    judge: str
    feature: str
    effect: Estimate


@dataclass(frozen=True, kw_only=True)
class Scored:
    """A model's mean on a task."""

    model: str
    task: str
    metric: str
    category: str = ""
    estimate: Estimate


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Two models' scores on the same items: a minus b."""

    a: str
    b: str
    task: str
    metric: str
    category: str = ""
    difference: Estimate
    tests: dict[str, float | None] = field(default_factory=dict)
    adjusted: dict[str, float | None] = field(default_factory=dict)
    family: int = 0
    detectable: float | None = None


@dataclass(frozen=True, kw_only=True)
class JudgeRow:
    """What is known of a judge beside its verdicts."""

    judge: str
    n: int
    missing: int
    first_wins: Estimate | None = None  # share of decided verdicts for who was shown first
    longer_wins: Estimate | None = None  # share of decided verdicts for the longer answer
    order_agreement: Estimate | None = None  # share of pairs with one verdict in both orders
    self_agreement: Estimate | None = None  # share of questions with one verdict when asked again


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Between two judges, or among all where `b` is empty."""

    a: str
    b: str = ""
    kind: str  # agreement, Cohen's kappa, Fleiss' kappa, Krippendorff's alpha
    estimate: Estimate


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A point of the frontier."""

    run: str
    step: int
    kl: Estimate  # nats per completion
    reward: Estimate
    length: Estimate | None = None


@dataclass(frozen=True, kw_only=True)
class Failure:
    """What could not be made, judged or read, and how often."""

    what: str
    model: str = ""
    judge: str = ""
    item: str = ""  # empty: several
    count: int = 1
    why: str = ""


@dataclass(frozen=True, kw_only=True)
class Sections:
    leaderboard: list[Ranked] = field(default_factory=list)
    pairs: list[Pair] = field(default_factory=list)
    scores: list[Scored] = field(default_factory=list)
    differences: list[Difference] = field(default_factory=list)
    judges: list[JudgeRow] = field(default_factory=list)
    agreement: list[Agreement] = field(default_factory=list)
    frontier: list[Checkpoint] = field(default_factory=list)
    styles: list[Styled] = field(default_factory=list)
    effects: list[Effect] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Results:
    title: str
    command: str = ""
    schema: int = SCHEMA
    manifest: dict[str, Any] = field(default_factory=dict)
    models: list[dict[str, Any]] = field(default_factory=list)  # each with "name"
    warnings: list[str] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    sections: Sections = field(default_factory=Sections)

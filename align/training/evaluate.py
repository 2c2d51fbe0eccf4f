"""Held-out metrics with their standard errors."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from align.batches import Group
from align.errors import RunError
from align.methods.base import Term
from align.runfolder.logs import Completion
from align.scoring.experience import Batching, Role, gather_experience, live_batch
from align.training.settings import TrainingSection
from align.training.snapshot import Progress


@dataclass(frozen=True)
class Estimate:
    """A mean over rows, or over tokens of rows, with the standard error that follows from the rows' scatter."""

    value: float
    stderr: float
    n: int  # rows


@dataclass(frozen=True)
class Evaluation:
    """What the method's loss and metrics are on rows that were not trained on."""

    estimates: dict[str, Estimate]
    per_row: dict[
        str, list[float]
    ]  # each metric's value for each row, in the order of the rows; for paired comparisons
    completions: tuple[Completion, ...] = ()  # a few of those that were written for it

    def flat(self, prefix: str) -> dict[str, float]:
        """`eval/loss`, `eval/loss_stderr`, ... as metrics.jsonl has them."""
        pairs = [(f"{prefix}/{n}", e.value) for n, e in self.estimates.items()]
        return dict(pairs + [(f"{prefix}/{n}_stderr", e.stderr) for n, e in self.estimates.items()])

    def told(self) -> dict[str, Any]:
        """As plain values: each metric's `value`, `stderr`, `n` and `rows`."""
        return {name: asdict(e) | {"rows": self.per_row.get(name, [])} for name, e in self.estimates.items()}


def evaluate(
    model: Any, method: Any, rows: Sequence[Sequence[Group]], batching: Batching, roles: Mapping[str, Role],
    tick: Callable[[int], Any] = lambda done: None,
) -> Evaluation:  # fmt: skip
    """Goes through `rows`, portions of the size of a training step (methods that compare rows of a step need that).

    `tick` is told the number of rows just done.
    """
    sums: dict[str, list[Tensor]] = {}
    sizes: dict[str, list[Tensor]] = {}
    weights: dict[str, float] = {}
    was_training = model.training
    model.eval()
    for groups in rows:
        experience = gather_experience(batching, groups, roles, method)
        of_rows: dict[str, Tensor] = {}
        counts = {n: _sizes(t) for n, t in method.loss(experience.batch).terms.items()}
        for micro, made in batching.score_all(model, experience.groups, batching.needs.live_columns()):
            loss = method.loss(live_batch(experience, micro, made, batching.world))
            weights = {n: t.weight for n, t in loss.terms.items()}
            for name, term in loss.terms.items():
                whole = of_rows.setdefault(name, torch.zeros(len(groups), dtype=torch.float64))
                whole[list(micro.groups)] = _row_sums(term).double().cpu()
        for name, count in counts.items():
            part = of_rows.get(name, torch.zeros(len(groups), dtype=torch.float64))
            sums.setdefault(name, []).append(batching.world.sum(part))
            sizes.setdefault(name, []).append(count)
        tick(len(groups))
    model.train(was_training)
    if not weights:  # this rank had nothing to score
        weights = {n: t.weight for n, t in method.loss(experience.batch).terms.items()}
    return _summarise({n: torch.cat(v) for n, v in sums.items()}, {n: torch.cat(v) for n, v in sizes.items()}, weights)


def _summarise(sums: dict[str, Tensor], sizes: dict[str, Tensor], weights: dict[str, float]) -> Evaluation:
    estimates = {name: ratio(sums[name], sizes[name]) for name in sums}
    per_row = {name: (sums[name] / sizes[name].clamp(min=1)).tolist() for name in sums}
    if "loss" not in estimates:
        terms = [name for name in sums if weights[name] != 0]
        variance = sum((weights[n] * estimates[n].stderr) ** 2 for n in terms)  # terms taken as independent
        value = sum(weights[n] * estimates[n].value for n in terms)
        estimates["loss"] = Estimate(value, math.sqrt(variance), estimates[terms[0]].n)
    return Evaluation(estimates, per_row)


def ratio(sums: Tensor, sizes: Tensor) -> Estimate:
    """sum / size over rows; the standard error treats rows as the independent units (linearised ratio estimator)."""
    kept = sizes > 0
    n = int(kept.sum())
    if n == 0:
        return Estimate(0.0, 0.0, 0)
    total = sizes.sum()
    value = sums.sum() / total
    residuals = (sums - value * sizes)[kept]
    spread = residuals.square().sum() * n / max(n - 1, 1)
    return Estimate(value.item(), (spread.sqrt() / total).item(), n)


def _row_sums(term: Term) -> Tensor:
    kept = term.values if term.mask is None else term.values.masked_fill(~term.mask, 0.0)
    return kept if kept.ndim == 1 else kept.sum(-1)


def _sizes(term: Term) -> Tensor:
    if term.mask is None:
        return torch.ones(len(term.values), dtype=torch.float64)
    return (term.mask if term.mask.ndim == 1 else term.mask.sum(-1)).double()


def is_best(settings: TrainingSection, progress: Progress, found: Evaluation) -> bool:
    """Notes what an evaluation says of the weights of now; True when they are the best so far, and are to be kept."""
    name, patience = settings.metric_for_best_model, settings.early_stopping_patience
    if name not in found.estimates and not (settings.load_best_model_at_end or patience):
        return False
    if name not in found.estimates:
        raise RunError(f"training.metric_for_best_model: no metric {name}; there are {', '.join(found.estimates)}")
    value = found.estimates[name].value
    better = value > progress.best_value if settings.greater_is_better else value < progress.best_value
    if progress.best_step < 0 or better:
        progress.best_step, progress.best_value, progress.bad_evaluations = progress.step, value, 0
        return settings.load_best_model_at_end
    progress.bad_evaluations += 1
    progress.ended_early = bool(patience) and progress.bad_evaluations >= patience
    return False

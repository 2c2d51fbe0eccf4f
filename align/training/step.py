"""One optimiser step: a list of lessons, exact under any division into micro-batches and ranks.

A lesson is an experience, a loss of it and who learns by it. All gradients are taken before anyone's weights change.

Every term of a loss is divided by its count over the whole experience. The masks do not depend on the trained model, so
the counts are read off a dry run of the loss over all of it, before the first backward pass, on every rank.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from align.errors import RunError
from align.methods.base import Loss, Term
from align.methods.metrics import About, about, of_term
from align.needs import LEARNS, TRAIN, Lesson
from align.scoring.experience import Batching, Columns, Experience, live_batch
from align.scoring.routing import counted
from align.training.critic import Made, Together, constant_but
from align.training.optim import set_rate
from align.training.slopes import Masters, Tug, pulled, slopes
from align.world.distributed import World

NONE: Mapping[str, Any] = {}


class Diverged(RunError):
    """A number of a step is not finite."""

    def __init__(self, finding: str, rows: list[int], *, spoilt: bool, stream: str = TRAIN):
        super().__init__(finding)
        self.rows = rows  # of the prepared data: those with such numbers
        self.stream = stream  # that they are of
        self.spoilt = spoilt  # whether the weights have taken the step already


@dataclass(frozen=True)
class StepResult:
    """What a step reports: means over the whole step, all ranks."""

    metrics: dict[str, float]
    num_tokens: int  # tokens that went through the model, prompts included, all ranks
    grad_norm: float  # before clipping
    about: Mapping[str, About] = field(default_factory=dict)  # what the table of metrics does not say


@dataclass(frozen=True)
class Trainee:
    """A module with its optimiser, however both are sharded."""

    module: Any  # the prepared Scorer
    optimizer: Any
    world: World
    max_grad_norm: float
    router_coef: float = 0.0  # weight of the load-balancing loss of its experts
    changing: frozenset[str] = frozenset()  # parameters that learn in some steps, or move: checkpoints hold them all
    masters: Masters | None = None  # of weights of fewer bits, which the optimiser steps; DeepSpeed has its own
    only: tuple[str, ...] = ()  # columns that it makes beside the policy; empty of one that makes all that are asked

    @contextmanager
    def micro_batch(self, last: bool) -> Iterator[None]:
        """Gradients of all but the last micro-batch stay on their rank."""
        if self.world.deepspeed:
            self.module.set_gradient_accumulation_boundary(last)
        wait = self.world.sharding == "ddp" and not last
        if self.world.sharding == "fsdp2":
            self.module.set_requires_gradient_sync(last)
        with self.module.no_sync() if wait else nullcontext():
            yield

    def backward(self, loss: Tensor) -> None:
        """Adds the gradient of `loss`; what it is given is already divided by the counts of the whole step."""
        loss = loss * self.world.size  # every sharding averages gradients over ranks
        if self.world.deepspeed:
            self.module.backward(loss, scale_wrt_gas=False)
        else:
            loss.backward()

    def update(self, rate: float, tug: Tug | None = None) -> float:
        """Clips, steps, forgets the gradients; returns the norm before clipping. Not finite: the weights stay.

        `tug` adds to the gradients before they are clipped.
        """
        set_rate(self.optimizer, rate)
        if self.masters is not None:
            self.masters.take_gradients()
        if tug is not None:
            apart = self.masters.slopes() if self.masters is not None else ()
            pulled(tug, itertools.chain(slopes(self.module, self.world), apart))
        if self.world.deepspeed:
            self.module.step()
            return _number(self.module.get_global_grad_norm())
        norm = _number(nn.utils.clip_grad_norm_(self._parameters(), self.max_grad_norm or math.inf))
        if math.isfinite(norm):
            self.optimizer.step()
            if self.masters is not None:
                self.masters.give_weights()
        self.optimizer.zero_grad(set_to_none=True)
        return norm

    def _parameters(self) -> list[nn.Parameter]:
        return [p for group in self.optimizer.param_groups for p in group["params"]]


@dataclass(frozen=True)
class Pass:
    """Lessons of one experience by one loss, whose columns are made together."""

    lessons: Sequence[Lesson]
    trainees: Sequence[Trainee]  # who learns by each
    last: Sequence[bool]  # whether it is that learner's last in this step
    columns: Columns
    shared: frozenset[str] = frozenset()  # columns that are not the policy's, where several models make them

    def seen(self, trainee: Trainee, made: Made) -> Made:
        """The columns as this learner's loss sees them: what others make is a constant."""
        if not self.shared:
            return made
        only = trainee.only
        return constant_but(made, lambda column: column in only if only else column not in self.shared)


def passes(learners: Mapping[str, Trainee], lessons: Sequence[Lesson]) -> list[Pass]:
    """In order. A learner that makes some columns alone shares the pass of the lesson before, where that is of the same
    experience and loss; the columns that no learner of a pass makes are the policy's, without gradient."""
    ends = {lesson.learner: i for i, lesson in enumerate(lessons)}
    found: list[list[int]] = []
    for i, lesson in enumerate(lessons):
        before = lessons[i - 1]
        alike = i > 0 and (lesson.stream, lesson.loss) == (before.stream, before.loss)
        if alike and learners[lesson.learner].only:
            found[-1].append(i)
        else:
            found.append([i])
    made: list[Pass] = []
    for numbers in found:
        taught = [lessons[i] for i in numbers]
        who = [learners[lesson.learner] for lesson in taught]
        others = {column: trainee.module for trainee in who for column in trainee.only}
        idle = bool(who[0].only)
        columns = Together(learners[LEARNS].module, others, idle) if others else who[0].module
        made.append(Pass(taught, who, [ends[lessons[i].learner] == i for i in numbers], columns, frozenset(others)))
    return made


def train_step(
    learners: Mapping[str, Trainee],
    lessons: Sequence[Lesson],
    streams: Mapping[str, Experience],
    batching: Batching,
    rates: Mapping[str, float],
    tugs: Mapping[str, Tug] = NONE,
) -> StepResult:
    """plan -> score -> loss -> backward for every micro-batch of this rank, in each lesson; then one update of each
    learner that has had one, in the order of `learners`. `tugs` are on their gradients, before they are clipped.

    Raises Diverged on every rank where a number is not finite.
    """
    told: dict[str, float] = {}
    what: dict[str, About] = {}
    for one in passes(learners, lessons):
        metrics, loss = _taught(one, streams[one.lessons[0].stream], batching)
        prefix = one.lessons[0].prefix
        told |= {prefix + name: value for name, value in metrics.items()}
        what |= {prefix + name: found for name, found in about_of(loss).items()}
    taught = {lesson.learner for lesson in lessons}
    learning = {name: trainee for name, trainee in learners.items() if name in taught}
    first = lessons[0]
    norms: dict[str, float] = {}
    for name, trainee in learning.items():
        norms[name] = norm = trainee.update(rates[name], tugs.get(name))
        if not math.isfinite(norm):
            finding = f"the gradient norm is {norm} while the loss is {told[first.prefix + 'loss']:.4g}"
            spoilt = len(norms) > 1 or (trainee.world.deepspeed and trainee.module.was_step_applied())
            raise Diverged(finding, [g.index for g in streams[first.stream].groups], spoilt=spoilt, stream=first.stream)
    told |= {f"{name}_grad_norm": norm for name, norm in norms.items() if name != LEARNS}
    seen = dict.fromkeys(lesson.stream for lesson in lessons)
    members = (m for stream in seen for group in streams[stream].groups for m in group.members)
    tokens = sum(len(m.prompt) + len(m.completion) for m in members)
    return StepResult(told, tokens, next(iter(norms.values())), what)


def _taught(one: Pass, experience: Experience, batching: Batching) -> tuple[dict[str, float], Loss]:
    """Adds the gradients of a pass; returns its means over all ranks, and the loss of its last micro-batch."""
    asked, world = batching.needs.live_columns(), batching.world
    lesson = one.lessons[0]
    plan = batching.plan(experience.groups, list(asked))
    counts = term_counts(lesson.loss(experience.batch))
    sums = {name: torch.zeros((), dtype=torch.float64) for name in counts}
    mine = batching.mine(plan)
    balance = counted(one.columns, one.trainees[0].router_coef, batching, experience, mine)
    columns = balance.watched if balance else one.columns
    odd: list[tuple[tuple[int, ...], Tensor]] = []
    for i, micro in enumerate(mine):
        with ExitStack() as opened:
            for trainee, last in zip(one.trainees, one.last, strict=True):
                opened.enter_context(trainee.micro_batch(last=last and i == len(mine) - 1))
            made = batching.score(columns, experience.groups, micro, asked)
            for trainee, own in zip(one.trainees, one.lessons, strict=True):
                seen = one.seen(trainee, made)
                loss = own.loss(live_batch(experience, micro, seen, world))
                totals = term_sums(loss)
                # The anchor keeps a rank without rows in the backward pass, whose collectives the others wait for.
                anchor = sum(v.sum() for of in seen.values() for v in of.values() if v.requires_grad)
                share = weighted(loss, totals, counts) + 0.0 * anchor
                share = share + balance.share() if balance and own is lesson else share
                trainee.backward(share if own.weight == 1 else own.weight * share)
            for name, value in totals.items():
                sums[name] += value.detach().double().cpu()
            odd.append((micro.groups, _odd_rows(loss)))
    metrics = _means(sums, counts, weights_of(loss), world)
    metrics |= balance.told(metrics["loss"]) if balance else {}
    if wrong := {n: v for n, v in metrics.items() if not math.isfinite(v)}:
        name = "loss" if "loss" in wrong else next(iter(wrong))
        flagged = [pair for groups, flags in odd for pair in zip(groups, flags.tolist(), strict=True)]
        found = world.everyone([experience.groups[i].index for i, flag in flagged if flag])
        rows = list(itertools.chain(*found))
        raise Diverged(f"{lesson.prefix}{name} is {wrong[name]}", rows, spoilt=False, stream=lesson.stream)
    return metrics, loss


def term_counts(loss: Loss) -> dict[str, float]:
    """How many rows or tokens each term is averaged over."""
    return {n: float(len(t.values) if t.mask is None else t.mask.sum()) for n, t in loss.terms.items()}


def term_sums(loss: Loss) -> dict[str, Tensor]:
    """The numerator of each term; what the mask drops does not enter, whatever it is."""
    return {n: _kept(t).sum() for n, t in loss.terms.items()}


def about_of(loss: Loss) -> dict[str, About]:
    """What each term is, where its name alone says something else."""
    found = {name: _about(name, term.weight, term.about) for name, term in loss.terms.items()}
    return {name: what for name, what in found.items() if what is not None}


@cache
def _about(name: str, weight: float, declared: About | None) -> About | None:
    """None where the name alone says it."""
    found = of_term(name, weight, declared)
    return None if found == about(name) else found


def weights_of(loss: Loss) -> dict[str, float]:
    return {n: t.weight for n, t in loss.terms.items()}


def weighted(loss: Loss, totals: Mapping[str, Tensor], counts: Mapping[str, float]) -> Tensor:
    """This micro-batch's share of the step's loss."""
    shares = [t.weight * totals[n] / max(counts[n], 1.0) for n, t in loss.terms.items() if t.weight != 0]
    return torch.stack(shares).sum()


def _kept(term: Term) -> Tensor:
    return term.values if term.mask is None else term.values.masked_fill(~term.mask, 0.0)


def _means(
    sums: Mapping[str, Tensor], counts: Mapping[str, float], weights: Mapping[str, float], world: World
) -> dict[str, float]:
    totals = world.sum(torch.stack(list(sums.values())))
    means = {name: (total / max(counts[name], 1.0)).item() for name, total in zip(sums, totals, strict=True)}
    means["loss"] = sum(weights[name] * means[name] for name in sums)
    return {name: mean for name, mean in means.items() if name == "loss" or counts[name]}  # a mean of nothing is none


def _odd_rows(loss: Loss) -> Tensor:
    """(B,) bool: rows with a number, in any term, that is not finite. Stays on its device until somebody asks."""
    odd = [~_kept(t).detach().isfinite() for t in loss.terms.values()]
    return torch.stack([o if o.ndim == 1 else o.any(-1) for o in odd]).any(0)


def _number(value: Any) -> float:
    value = value.full_tensor() if hasattr(value, "full_tensor") else value
    return float(value)

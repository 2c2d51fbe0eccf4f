"""One optimiser step: exact under any division into micro-batches and ranks.

Every term of a loss is divided by its count over the whole step. The masks do not depend on the trained model, so
the counts are read off a dry run of the loss over the whole experience, before the first backward pass, on every rank.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from align.errors import RunError
from align.methods.base import Loss, Term
from align.methods.metrics import About, about, of_term
from align.scoring.experience import Columns, Experience, Reader, live_batch, live_columns
from align.scoring.routing import counted
from align.training.critic import Beside, Made, of_critic, of_policy
from align.training.optim import set_rate
from align.training.slopes import Pull, pulled
from align.world.distributed import World


class Diverged(RunError):
    """A number of a step is not finite."""

    def __init__(self, finding: str, rows: list[int], *, spoilt: bool):
        super().__init__(finding)
        self.rows = rows  # of the prepared data: those with such numbers
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
    critic: Trainee | None = None  # where that is a model of its own
    router_coef: float = 0.0  # weight of the load-balancing loss of its experts
    changing: frozenset[str] = frozenset()  # parameters that learn in some steps, or move: checkpoints hold them all

    def columns(self, *, idle: bool = False) -> Columns:
        """The model and its critic as one that answers with columns; `idle` where the policy does not learn."""
        return self.module if self.critic is None else Beside(self.module, self.critic.module, idle)

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

    def update(self, rate: float, pull: Pull | None = None) -> float:
        """Clips, steps, forgets the gradients; returns the norm before clipping. Not finite: the weights stay.

        `pull` adds to the gradients before they are clipped.
        """
        set_rate(self.optimizer, rate)
        if pull is not None:
            pulled(pull, self.module, self.world)
        if self.world.deepspeed:
            self.module.step()
            return _number(self.module.get_global_grad_norm())
        norm = _number(nn.utils.clip_grad_norm_(self._parameters(), self.max_grad_norm or math.inf))
        if math.isfinite(norm):
            self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return norm

    def _parameters(self) -> list[nn.Parameter]:
        return [p for group in self.optimizer.param_groups for p in group["params"]]


@dataclass(frozen=True)
class Rates:
    """Learning rates of a step."""

    policy: float | None  # None: it does not learn in this step
    critic: float = 0.0  # of one that is a model of its own
    pull: Pull | None = None  # on the policy's gradients, before they are clipped


@dataclass(frozen=True)
class Learner:
    """One of the modules that learn in a step, and the step's columns as its loss sees them."""

    trainee: Trainee
    rate: float
    seen: Callable[[Made], Made]
    pull: Pull | None = None


def learners(trainee: Trainee, rates: Rates) -> list[Learner]:
    """The policy, unless it is idle, and after it the critic, where that is a model of its own."""
    if trainee.critic is None:
        assert rates.policy is not None, "nothing learns"
        return [Learner(trainee, rates.policy, lambda made: made, rates.pull)]
    policy = [] if rates.policy is None else [Learner(trainee, rates.policy, of_policy, rates.pull)]
    return [*policy, Learner(trainee.critic, rates.critic, of_critic)]


def train_step(
    trainee: Trainee, method: Any, experience: Experience, reader: Reader, rates: float | Rates
) -> StepResult:
    """plan -> score -> method.loss -> backward for every micro-batch of this rank, then one update of the weights.

    Raises Diverged on every rank where a number is not finite.
    """
    world, asked = trainee.world, live_columns(reader.needs)
    rates = rates if isinstance(rates, Rates) else Rates(rates)
    learning, columns = learners(trainee, rates), trainee.columns(idle=rates.policy is None)
    plan = reader.plan(experience.groups, list(asked))
    counts = term_counts(method.loss(experience.batch))
    sums = {name: torch.zeros((), dtype=torch.float64) for name in counts}
    mine = reader.mine(plan)
    balance = counted(columns, trainee.router_coef, reader, experience, mine) if rates.policy is not None else None
    columns = balance.watched if balance else columns
    odd: list[tuple[tuple[int, ...], Tensor]] = []
    for i, micro in enumerate(mine):
        with ExitStack() as opened:
            for learner in learning:
                opened.enter_context(learner.trainee.micro_batch(last=i == len(mine) - 1))
            made = reader.score(columns, experience.groups, micro, asked)
            for learner in learning:
                seen = learner.seen(made)
                loss = method.loss(live_batch(experience, micro, seen, reader.world))
                totals = term_sums(loss)
                # The anchor keeps a rank without rows in the backward pass, whose collectives the others wait for.
                anchor = sum(v.sum() for of in seen.values() for v in of.values() if v.requires_grad)
                share = weighted(loss, totals, counts) + 0.0 * anchor
                share = share + balance.share() if balance and learner is learning[0] else share
                learner.trainee.backward(share)
            for name, value in totals.items():
                sums[name] += value.detach().double().cpu()
            odd.append((micro.groups, _odd_rows(loss)))
    metrics = _means(sums, counts, weights_of(loss), reader.world)
    metrics |= balance.told(metrics["loss"]) if balance else {}
    if wrong := {n: v for n, v in metrics.items() if not math.isfinite(v)}:
        name = "loss" if "loss" in wrong else next(iter(wrong))
        flagged = [pair for groups, flags in odd for pair in zip(groups, flags.tolist(), strict=True)]
        found = world.everyone([experience.groups[i].index for i, flag in flagged if flag])
        raise Diverged(f"{name} is {wrong[name]}", list(itertools.chain(*found)), spoilt=False)
    norms = _update(learning, experience, metrics["loss"])
    if trainee.critic is not None:
        metrics["critic_grad_norm"] = norms[-1]
    tokens = sum(len(m) for g in experience.groups for m in g.members)
    return StepResult(metrics, tokens, norms[0], about_of(loss))


def _update(learning: Sequence[Learner], experience: Experience, loss: float) -> list[float]:
    """The gradient norms before clipping. Raises Diverged where one is not finite."""
    norms: list[float] = []
    for learner in learning:
        norms.append(norm := learner.trainee.update(learner.rate, learner.pull))
        if not math.isfinite(norm):
            finding = f"the gradient norm is {norm} while the loss is {loss:.4g}"
            spoilt = len(norms) > 1 or (learner.trainee.world.deepspeed and learner.trainee.module.was_step_applied())
            raise Diverged(finding, [g.index for g in experience.groups], spoilt=spoilt)
    return norms


def term_counts(loss: Loss) -> dict[str, float]:
    """How many rows or tokens each term is averaged over."""
    return {n: float(len(t.values) if t.mask is None else t.mask.sum()) for n, t in loss.terms.items()}


def term_sums(loss: Loss) -> dict[str, Tensor]:
    """The numerator of each term; what the mask drops does not enter, whatever it is."""
    return {n: _kept(t).sum() for n, t in loss.terms.items()}


def about_of(loss: Loss) -> dict[str, About]:
    """What each term is, where its name alone says something else."""
    found = {name: of_term(name, term.weight, term.about) for name, term in loss.terms.items()}
    return {name: what for name, what in found.items() if what != about(name)}


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

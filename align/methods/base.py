"""What a method is: its needs, its knobs, its loss.

A method is a frozen dataclass over a batch type. The batch type says what it reads (`align.batches`), the fields are
the recipe's keys with the paper's defaults, `loss` returns terms before any mean. `training/step.py` divides by the
counts of the whole optimiser step, over all ranks and micro-batches, for every method alike.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, TypeVar, get_args, get_origin

import torch
from torch import Tensor

from align.batches import Anchored, Ask, Batch, CriticRollouts, Pairs, Rollouts, Sampled
from align.functional.kl import k3
from align.functional.masked import kept, masked_mean, masked_sum
from align.functional.preference import pair_metrics
from align.functional.surrogate import clipped_value_loss, ratio_of
from align.methods.lookup import find
from align.methods.lookup import method_names as method_names
from align.methods.metrics import About
from align.needs import LEARNS, TRAIN, Lesson, Levels, Move, Needs, Pull, needs_of
from align.system.ranges import misfits

LEVELS = ("token", "sequence", "geometric")
OF_COMPLETIONS = LEVELS[1:]  # where a completion has one ratio, and so one advantage
B = TypeVar("B", bound=Batch)
R = TypeVar("R", bound=Rollouts[Any])
M = TypeVar("M", bound="OnlineMethod[Any]")  # beartype knows no typing.Self in a method


@dataclass(frozen=True)
class Term:
    """Values before any mean: (B,) is averaged over kept rows, (B, T) over kept tokens. Weight 0 makes it a metric."""

    values: Tensor
    mask: Tensor | None = None  # same shape as values; must not depend on live columns; None keeps every row
    weight: float = 1.0
    about: About | None = None  # what it is, where the table of `align.methods.metrics` does not say it


def metric(values: Tensor, mask: Tensor | None = None, about: About | None = None) -> Term:
    """A number to be logged, averaged like a loss term and never differentiated.

    One that is not in the table says what it is: `metric(surprise, mask, About("smaller", "Surprise", "nats"))`.
    """
    return Term(values.detach().to(torch.promote_types(values.dtype, torch.float32)), mask, weight=0.0, about=about)


class Loss:
    """One or more named terms; the loss is the sum of weight times mean. `Loss(x)` names its only term `loss`."""

    def __init__(self, loss: Tensor | Term | None = None, /, **terms: Tensor | Term):
        named = terms if loss is None else {"loss": loss, **terms}
        self.terms = {k: v if isinstance(v, Term) else Term(v) for k, v in named.items()}
        for name, term in self.terms.items():
            assert term.values.ndim, f"term {name} is one number; give (B,) or (B, T), whose mean is taken later"
            assert term.values.ndim == 1 or term.mask is not None, f"term {name} is (B, T) and needs its mask"

    def report(self, metrics: Mapping[str, Tensor | Term]) -> Loss:
        """The same loss, with numbers per row (B,), or metrics, to be logged beside it."""
        made = {name: m if isinstance(m, Term) else metric(m) for name, m in metrics.items()}
        return Loss(None, **self.terms, **made)


def weight(default: float, *, of: str) -> Any:
    """A knob that weighs the columns of the roles `of` (one name, or several with blanks between).

    Where all knobs of a role are 0, it is not loaded, and its column repeats the log-probabilities of the policy that
    wrote. A role that no knob weighs is always there.
    """
    return field(default=default, metadata={"weighs": tuple(of.split())})


def follows(key: str, default: int | float) -> Any:
    """A knob that a recipe without it sets to the value of another of its keys; `default` is for those without any."""
    return field(default=default, metadata={"follows": key})


def remembered(default: float | tuple[Any, ...] = 0.0, *, told: bool = False) -> Any:
    """No knob, but a number, or a tuple of them, that `controllers` carries from one experience to the next; or what
    the run tells a method over two levels: names of its sources, their weights of now.

    `default` is its first value; `told` writes it to metrics.jsonl, for each experience, as it was learned with.
    """
    return field(default=default, metadata={"remembered": True, "told": told})


def aggregated(values: Tensor, mask: Tensor, aggregation: str) -> Term:
    """Losses of tokens (B, T) as a term: the mean over tokens, or over rows of their means or sums."""
    if aggregation == "token_mean":
        return Term(values, mask)
    of_row = {"sequence_mean": masked_mean, "sequence_sum": masked_sum}[aggregation]
    return Term(of_row(values, mask), mask.any(-1))


def pair_report(batch: Pairs[Any], chosen_rewards: Tensor, rejected_rewards: Tensor) -> dict[str, Tensor]:
    """What every method over pairs of `Sequences` reports: `pair_metrics`, summed log-probabilities and their order."""
    chosen = masked_sum(batch.chosen.logps, batch.chosen.mask)
    rejected = masked_sum(batch.rejected.logps, batch.rejected.mask)
    likelier = (chosen > rejected).float()  # needs no reference, so it is comparable before and after training
    rewards = pair_metrics(chosen_rewards, rejected_rewards)
    return rewards | {"chosen_logps": chosen, "rejected_logps": rejected, "likelihood_accuracy": likelier}


def require(holds: bool, method: Method[Any], knob: str, range_: str) -> None:
    """Raises `ValueError` naming the knob, its value and the range in which it makes sense, unless `holds`."""
    if not holds:
        raise ValueError(f"{method.name}.{knob} is {getattr(method, knob)!r}; it must be {range_}")


@dataclass(frozen=True, kw_only=True)
class Method(Generic[B]):
    """Base of all methods."""

    name: ClassVar[str]
    paper: ClassVar[str] = ""
    smallest_batch: ClassVar[int] = 1  # groups; more for methods that compare rows of a step
    usual_rate: ClassVar[float] = 1e-6  # optim.learning_rate of a recipe that has none
    compared_by: ClassVar[str] = "loss"  # training.metric_for_best_model of a recipe that has none
    usual_minibatches: ClassVar[int] = 1  # likewise training.num_minibatches, of rows that are there before
    rounds: ClassVar[bool] = False  # whether each experience has a schedule, an evaluation and files of its own

    def __post_init__(self) -> None:
        for knob, expected in misfits(self):
            raise ValueError(f"{self.name}.{knob} is {getattr(self, knob)!r}; it must be {expected}")

    def moves(self) -> Sequence[Move]:
        """What happens to weights between steps, in order, beside the optimiser's updates. Most move nothing."""
        return ()

    def pulls(self) -> Sequence[Pull]:
        """What draws the policy towards a copy of it, beside its loss. Most have no such pull."""
        return ()

    def levels(self) -> Levels | None:
        """What a run over two levels has beside a policy and training rows; None of most."""
        return None

    def lessons(self) -> Sequence[Lesson]:
        """Who learns from what in a step, in this order. With most it is the policy alone, from the training rows."""
        return (Lesson(LEARNS, TRAIN, self.loss),)

    def loss(self, batch: B) -> Loss:
        raise NotImplementedError(f"{type(self).__name__} has no loss")

    def controllers(self, batch: B, /) -> Mapping[str, float | Sequence[float]]:
        """Fields of this method whose values the next experience is to find changed: plain numbers, or lists of them.

        Sees the whole experience before it is learned from. Most remember nothing.
        """
        return {}

    @classmethod
    def needs(cls) -> Needs:
        """The batch type in `class X(OfflineMethod[THIS])`, as a list of members, columns and row numbers."""
        for base in getattr(cls, "__orig_bases__", ()):
            if isinstance(get_origin(base), type) and issubclass(get_origin(base), Method):
                return needs_of(get_args(base)[0])
        raise TypeError(f"{cls.__name__} does not name its batch type")


@dataclass(frozen=True, kw_only=True)
class OfflineMethod(Method[B]):
    """A method that learns from rows that exist before training."""

    def prepare(self, batch: B) -> B:
        """Sees the whole experience, gathered from all ranks, before the first update; most methods need nothing."""
        return batch


@dataclass(frozen=True, kw_only=True)
class OnlineMethod(Method[R]):
    """A method that learns from what the policy writes.

    The hooks see the whole experience: all rows that were written since the weights last changed hands, on the CPU.
    """

    compared_by = "reward"
    smallest_group: ClassVar[int] = 1  # completions of a prompt; more where they are compared with each other
    learns_from_rewards: ClassVar[bool] = True  # False: what completions earn is told, and nothing is learned from it
    plays: ClassVar[bool] = False  # a game: what it wins and pays is of the policy as it is, against the reference

    @property
    def correction_levels(self) -> tuple[str, ...]:
        """The levels of `rollout.correction` whose weights on the advantages weigh the gradient in the same way."""
        return LEVELS

    def advantages(self, rollouts: R) -> R:
        """Fills in `advantages` (B, T), and `returns` for a critic; 0 where the mask is False."""
        raise NotImplementedError(f"{type(self).__name__} has no advantages")

    def resample(self, rollouts: R) -> list[Ask]:
        """More completions that are wanted, asked again until there are none; before any stored column is made."""
        return []

    @classmethod
    def resamples(cls) -> bool:
        """Whether it ever asks for more."""
        plain: Any = OnlineMethod
        return cls.resample is not plain.resample

    def writers(self) -> Sequence[str]:
        """The copies of the policy, each of which `moves` names, that `resample` asks to write. Most ask the policy."""
        return ()

    def keep(self, rollouts: R) -> Tensor:
        """What to learn from, after `advantages`: (B,) or (B, T), True = keep. Most learn from everything. Where too
        few prompts are kept for the steps of an experience, the others are learned from too, at their advantages."""
        return torch.ones(len(rollouts), dtype=torch.bool)

    @property
    def wants_rates(self) -> bool | None:
        """Whether the reward must be how often a completion beats the others of its prompt (`win_rate`), or must judge
        each completion alone; None: either will do."""
        return None

    def critic_alone(self: M) -> M:
        """The method as it is in steps in which only the critic learns (`model.critic`). Most are the same."""
        return self


def per_token(rollouts: R, advantages: Tensor) -> R:
    """The rollouts with one advantage (B,) on each kept token of a completion."""
    mask = rollouts.completion.mask
    return dataclasses.replace(rollouts, advantages=advantages[:, None].expand(mask.shape).masked_fill(~mask, 0.0))


def of_completion(rollouts: Rollouts[Any]) -> Tensor:
    """(B,): the advantage that all kept tokens of a completion share."""
    return masked_mean(rollouts.advantages, rollouts.completion.mask)


def drift(completion: Sampled) -> Tensor:
    """(B, T): log pi - log pi_old of each kept token, 0 elsewhere."""
    return kept(completion.logps - completion.old_logps, completion.mask)


def distance(written: Anchored) -> Tensor:
    """(B, T): log pi_old - log pi_ref of each kept token, 0 elsewhere."""
    return kept(written.old_logps - written.ref_logps, written.mask)


def kl_charged(rollouts: Rollouts[Any], kl_coef: float) -> Tensor:
    """(B,): the reward less kl_coef sum_t [log pi_old(y_t) - log pi_ref(y_t)]."""
    return rollouts.rewards - kl_coef * distance(rollouts.completion).sum(-1)


def reinforce_loss(batch: Rollouts[Any]) -> Loss:
    """-A_i sum_t log pi(y_t) of each completion (Williams, 1992), and what every method over rollouts reports."""
    losses = -masked_sum(batch.advantages * batch.completion.logps, batch.completion.mask)
    return Loss(losses).report(policy_report(batch, torch.zeros_like(losses, dtype=torch.bool)))


def value_term(batch: CriticRollouts[Any], coef: float, clip: float = math.inf, mask: Tensor | None = None) -> Term:
    """Half the squared error of the critic, over kept tokens or `mask`; a finite `clip` is around the old values."""
    completion = batch.completion
    values, old_values = kept(completion.values, completion.mask), kept(completion.old_values, completion.mask)
    losses = clipped_value_loss(values, old_values, batch.returns, clip)
    return Term(losses, completion.mask if mask is None else mask, coef)


def policy_report(batch: Rollouts[Any], clipped: Tensor, mask: Tensor | None = None) -> dict[str, Term]:
    """What every method over rollouts reports; `clipped` is bool, (B, T) or (B,), where the clip took the gradient.

    `mask`: the tokens that the policy learns from, where these are not all that are kept.
    """
    completion = batch.completion
    mask = completion.mask if mask is None else mask
    log_ratio = drift(completion)
    return {
        "entropy": metric(completion.entropies, mask),
        "ratio": metric(ratio_of(log_ratio), mask),
        "approx_kl": metric(k3(-log_ratio), mask),
        "sampler_gap": metric((completion.old_logps - completion.sampler_logps).abs(), mask),
        "clip_fraction": metric(clipped, mask if clipped.ndim == 2 else None),
    }


def find_method(name: str) -> type[Method[Any]]:
    """The class called `name`, or `package.module:Class` for one that lives elsewhere."""
    return find(name, Method)

"""From what was written to what is learned: rewards, stored columns, advantages, what is kept, minibatches."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from align.batches import Ask, Group, Tokens
from align.errors import RunError
from align.functional.correction import bounded, sampler_weights
from align.needs import Harvested, empty_batch
from align.rewards.shape import Ends, Piece, Whiten, shaped
from align.rewards.verdicts import RewardFunctions
from align.rollout.draws import seed_of
from align.rollout.settings import RolloutSection
from align.rollout.states import Place, places_of, with_states
from align.rollout.writer import Trajectory
from align.scoring.experience import Batching, Experience, Role, stored_columns
from align.scoring.role_table import POLICY
from align.sources.buffer import Passes


@dataclass(frozen=True)
class Harvest:
    """An experience before it is cut into minibatches."""

    rewards: Tensor  # (number written,), shaped; NaN where nothing could be judged
    whole: Experience
    kept: Tensor  # (B, T) bool: what is learned from
    usable: Tensor  # (B, T) bool: what may be, where that is too little for the steps that are to be made
    metrics: dict[str, float]
    rows: list[Trajectory]  # of `whole`
    learns_from_rewards: bool = True

    @property
    def num_groups(self) -> int:
        """Prompts of which something is learned."""
        return len(set(self.whole.batch.groups[self.kept.any(-1)].tolist()))


@dataclass(frozen=True)
class Harvester:
    """What an experience is made with."""

    batching: Batching
    roles: Mapping[str, Role]  # those that are needed, but for the engine
    reward_functions: RewardFunctions
    shape: tuple[Piece, ...]
    settings: RolloutSection
    on_demand: Mapping[str, Role] = field(default_factory=dict)  # asked where a hook looks at what they make

    def rewards(self, written: Sequence[Trajectory], *, held_out: bool = False) -> Tensor:
        """(B,) float32, shaped; NaN where nothing could be judged. Held-out ones stay in the units they are earned in:
        whitened by their own spread they could not be compared with those of another evaluation."""
        shape = tuple(piece for piece in self.shape if not (held_out and isinstance(piece, Whiten)))
        totals = [self.reward_functions.total(t.rewards) for t in written]
        found = torch.tensor([float("nan") if v is None else v for v in totals], dtype=torch.float32)
        judged = ~found.isnan()
        ends = Ends(
            finished=torch.tensor([t.finished for t in written], dtype=torch.bool)[judged],
            lengths=torch.tensor([t.length for t in written])[judged],
        )
        found[judged] = shaped(found[judged], ends, shape)
        return found

    def unscored(self, written: Sequence[Trajectory]) -> tuple[list[Trajectory], Any]:
        """What was judged, and a batch of it whose stored columns are zeros.

        Rewards that compare come later: they are left out here, and what only they judge is 0.
        """
        if self.reward_functions.comparing:
            written = [dataclasses.replace(t, rewards=self.reward_functions.alone(t.rewards)) for t in written]
        rewards = self.rewards(written)
        compares = bool(self.reward_functions.comparing)
        judged, groups, places = self._rows(written, rewards.nan_to_num() if compares else rewards)
        member = next(iter(self.batching.needs.members))
        width = max(len(g.members[0].completion) for g in groups)
        blank = {(member, c): torch.zeros(len(groups), width) for c in self.batching.needs.stored(member)}
        return judged, with_states(empty_batch(self.batching.needs, groups, blank), judged, places)

    def _rows(
        self, written: Sequence[Trajectory], rewards: Tensor
    ) -> tuple[list[Trajectory], list[Group], dict[Place, int]]:
        """What was judged, or goes on, as trajectories and as groups; and their states, where they are counted."""
        pairs = enumerate(zip(written, rewards.tolist(), strict=True))
        judged = [(i, t, r if t.done else 0.0) for i, (t, r) in pairs if r == r or not t.done]
        if not any(not t.auxiliary for _, t, _ in judged):
            reasons = {reason for t in written for reason in t.failed.values()}
            raise RunError(
                f"none of {len(written)} completions could be judged ({'; '.join(sorted(reasons)) or 'all None'}); "
                "look at reward.functions, and at the columns that they read"
            )
        kin = [i // self.settings.num_generations if self.settings.window else t.number for i, t, _ in judged]
        numbers = {n: i for i, n in enumerate(dict.fromkeys(kin))}
        places = places_of([t for _, t, _ in judged]) if self.batching.needs.batch.stepwise else {}
        found = [self._harvested(t, numbers[n], r, places) for n, (_, t, r) in zip(kin, judged, strict=True)]
        makers = self.batching.needs.of_completions()
        groups = [
            Group((tokens_of(c.written),), {name: float(make(c)) for name, make in makers.items()}, c.written.row)
            for c in found
        ]
        return [t for _, t, _ in judged], groups, places

    def _harvested(self, t: Trajectory, group: int, reward: float, places: Mapping[Place, int]) -> Harvested:
        origin = places.get((t.number, t.source, t.given), 0) if t.auxiliary else 0
        return Harvested(t, group, reward, self.reward_functions.total(t.rewards) or 0.0, origin)

    def harvest(self, written: Sequence[Trajectory], method: Any) -> Harvest:
        """Rows, their stored columns and advantages, and what of them is learned from."""
        rewards = self.rewards(written)
        judged, groups, places = self._rows(written, rewards)
        roles = self.roles
        stored, repeats = self._stored(groups, judged, roles)
        batch = with_states(empty_batch(self.batching.needs, groups, stored), judged, places)
        if self.on_demand and looked_at(batch, method) & set(repeats):
            roles = {**self.on_demand, **roles}
            stored, repeats = self._stored(groups, judged, roles)
            batch = with_states(empty_batch(self.batching.needs, groups, stored), judged, places)
        batch = filled(method, batch)
        kept = chosen(method, batch)  # by the advantages as they are, so before they are weighed
        kept = batch.completion.mask & (kept if kept.ndim == 2 else kept[:, None])
        batch, metrics = self._corrected(batch)
        learned = [len(t.prompt) + n for g in groups for t in g.members if (n := len(t.completion))]
        metrics["scored_tokens"] = float(len(roles) * sum(learned))
        usable = batch.completion.mask
        if self.settings.mask_truncated:
            usable = usable & torch.tensor([t.finished for t in judged])[:, None]
        kept = kept & usable
        rows = (~batch.auxiliary | kept.any(-1)).nonzero()[:, 0]  # what only helped has done so
        whole = Experience([groups[i] for i in rows.tolist()], batch.select(rows), repeats)
        trajectories = [judged[i] for i in rows.tolist()]
        return Harvest(rewards, whole, kept[rows], usable[rows], metrics, trajectories, method.learns_from_rewards)

    def _stored(
        self, groups: Sequence[Group], written: Sequence[Trajectory], roles: Mapping[str, Role]
    ) -> tuple[dict[tuple[str, str], Tensor], tuple[str, ...]]:
        """The stored columns; those that no role makes repeat the policy's log-probabilities."""
        needs = self.batching.needs
        member = next(iter(needs.members))
        width = max(len(g.members[0].completion) for g in groups)
        sampler = torch.zeros(len(groups), width)
        learned = [i for i, t in enumerate(written) if not t.auxiliary or t.learned]
        for i in learned:
            sampler[i, : len(written[i].logps)] = torch.tensor(written[i].logps)
        stored = {(member, "sampler_logps"): sampler}
        for key, values in stored_columns(self.batching, [groups[i] for i in learned], roles).items():
            stored[key] = torch.zeros_like(sampler)
            stored[key][learned, : values.shape[1]] = values
        missing = [c for c in needs.stored(member) if (member, c) not in stored]
        repeats = () if POLICY in roles else tuple(missing)
        for column in missing:
            stored[member, column] = stored.get((member, "old_logps"), torch.zeros_like(sampler))
        return stored, repeats

    def _corrected(self, batch: Any) -> tuple[Any, dict[str, float]]:
        """Advantages times the bounded weights pi_old / sampler; methods that these do not correct refuse them."""
        settings = self.settings
        if settings.correction == "none":
            return batch, {}
        written = batch.completion
        raw = sampler_weights(written.old_logps, written.sampler_logps, written.mask, settings.correction_level)
        weights = bounded(raw, settings.correction_low, settings.correction_high, settings.correction)
        kept = batch.fresh
        metrics = {
            "correction_weight": weights[kept].mean().item(),
            "correction_bounded": (weights != raw)[kept].float().mean().item(),
        }
        return dataclasses.replace(batch, advantages=batch.advantages * weights), metrics


def filled(method: Any, batch: Any) -> Any:
    """The batch with its advantages. RunError where the method has made something else of it."""
    made = method.advantages(batch)
    if not isinstance(made, type(batch)):
        told = "return dataclasses.replace(rollouts, advantages=...), or per_token(rollouts, ...)"
        raise RunError(f"{method.name}: advantages returned {type(made).__name__}, not the rollouts; {told}")
    if made.advantages.shape != (shape := batch.completion.mask.shape):
        found, told = tuple(made.advantages.shape), "per_token spreads (B,) over the tokens of a completion"
        raise RunError(f"{method.name}: advantages are {found}; expected (B, T), {tuple(shape)}; {told}")
    return made


def chosen(method: Any, batch: Any) -> Tensor:
    """What the method keeps. RunError where it is not True or False for each completion, or each token."""
    made: Any = method.keep(batch)
    shape = batch.completion.mask.shape
    if not isinstance(made, Tensor) or made.dtype != torch.bool or made.shape not in (shape, shape[:1]):
        found = f"{made.dtype} {tuple(made.shape)}" if isinstance(made, Tensor) else type(made).__name__
        raise RunError(f"{method.name}: keep returned {found}; expected bool, {tuple(shape[:1])} or {tuple(shape)}")
    return made


def wanted(method: Any, batch: Any) -> list[Ask]:
    """What else the method asks to be written. RunError where it is no list of `Ask`, or of rows that are not there."""
    asks: Any = method.resample(batch)
    if not isinstance(asks, list | tuple) or not all(isinstance(ask, Ask) for ask in asks):
        raise RunError(f"{method.name}: resample returned {str(asks)[:80]}; expected a list of align.batches.Ask")
    if far := next((ask for ask in asks if not 0 <= ask.row < len(batch)), None):
        raise RunError(f"{method.name}: resample asks for row {far.row}; there are rows 0 to {len(batch) - 1}")
    return list(asks)


def looked_at(batch: Any, method: Any) -> set[str]:
    """The columns of the completions that the method's hooks read before the step; they are pure, so trying is free."""
    seen: set[str] = set()
    kind: Any = type(batch.completion)

    def read(member: Any, name: str) -> Any:
        seen.add(name)
        return kind.__getattribute__(member, name)

    watched: Any = object.__new__(type(kind.__name__, (kind,), {"__getattribute__": read}))
    watched.__dict__.update(vars(batch.completion))
    tried = filled(method, dataclasses.replace(batch, completion=watched))
    chosen(method, tried)
    method.controllers(tried)
    return seen


def minibatches(
    harvest: Harvest, settings: RolloutSection, sizes: tuple[int, int], seed: int
) -> tuple[Experience, Passes]:
    """The experience with its masks narrowed, and the rows of each step, prompts kept together.

    `sizes` are the prompts of an experience and of a step.
    """
    num_prompts, batch_size = sizes
    count, whole, kept = num_prompts // batch_size, harvest.whole, harvest.kept
    rows_of = _rows_of_groups(whole.batch.groups, kept)
    if len(rows_of) < count:  # too little is left for a step each: all that may be is learned from, at its advantages
        kept = harvest.usable
        rows_of = _rows_of_groups(whole.batch.groups, kept, every=True)
    rows_of = rows_of[:num_prompts]
    narrowed = dataclasses.replace(whole.batch.completion, mask=kept)
    experience = dataclasses.replace(whole, batch=dataclasses.replace(whole.batch, completion=narrowed))
    passes: Passes = []
    for number in range(settings.num_iterations):
        order = np.arange(len(rows_of))
        if count > 1:
            order = np.random.default_rng(seed_of(seed, number)).permutation(order)
        passes.append([[row for g in part for row in rows_of[g]] for part in np.array_split(order, count)])
    return experience, passes


def _rows_of_groups(groups: Tensor, kept: Tensor, *, every: bool = False) -> list[list[int]]:
    """For each prompt of which something is kept, the rows of which something is; all rows of any other prompt where
    `every` is True, which make a step that learns nothing from them."""
    found: dict[int, list[int]] = {}
    some = kept.any(-1).tolist()
    numbers = [int(group) for group in groups.tolist()]
    alive = {group for group, one in zip(numbers, some, strict=True) if one}
    for row, (group, one) in enumerate(zip(numbers, some, strict=True)):
        if one or (every and group not in alive):
            found.setdefault(group, []).append(row)
    return list(found.values())


def tokens_of(trajectory: Trajectory) -> Tokens:
    """The row of a completion: learned from where the policy wrote it; an auxiliary one has none of its tokens."""
    some = not trajectory.auxiliary or trajectory.learned
    mask = np.array(trajectory.by_policy if some else [], dtype=bool)
    completion = np.array(trajectory.tokens if some else [], dtype=np.int32)
    return Tokens(np.array(trajectory.prompt, dtype=np.int32), completion, mask)

"""Experience that the policy writes itself.

    prompts -> completions -> rewards -> [stored columns] -> method.advantages -> method.keep -> minibatches

An experience lasts for a fixed number of steps, `num_iterations` passes over `num_prompts / batch_size` minibatches,
so that the step alone says where in it a run is. What has been written of the experience under way is kept in the run
folder, line by line; what is being learned from is part of every checkpoint that is taken before its end.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from align.batches import Group, Tokens
from align.needs import empty_batch, flattened, rebuilt
from align.rewards.shape import Ends, Piece, shaped
from align.rollout.draws import seed_of
from align.rollout.settings import RolloutSection
from align.training.evaluate import Evaluation
from align.training.experience import Experience, Reader, Role, stored_columns
from align.training.loop import Portion
from align.training.rollout_log import RolloutLog
from align.training.rollout_metrics import held_out_rewards, phase_metrics
from align.training.snapshot import Progress
from align.training.writing import Prompt, Seconds, Trajectory, Writer

Prompts = Callable[[int, int], Sequence[Prompt]]  # start, stop of the endless stream -> prompts


@dataclass
class Buffer:
    """An experience that is being learned from."""

    phase: int
    experience: Experience
    minibatches: list[list[list[int]]]  # pass -> minibatch -> rows
    controllers: dict[str, float]  # what the method remembered when it was written
    metrics: dict[str, float]

    def state(self) -> dict[str, Any]:
        """As plain values and tensors."""
        groups = [
            {"prompt": m.prompt.tolist(), "completion": m.completion.tolist(), "mask": m.mask.tolist(),
             "row": dict(g.row), "index": g.index}
            for g in self.experience.groups for m in g.members
        ]  # fmt: skip
        return {
            "phase": self.phase, "groups": groups, "batch": flattened(self.experience.batch),
            "repeats": list(self.experience.repeats), "minibatches": self.minibatches, "controllers": self.controllers,
        }  # fmt: skip

    @classmethod
    def restored(cls, state: Mapping[str, Any], reader: Reader) -> Buffer:
        groups = [
            Group((tokens_of(g["prompt"], g["completion"], g["mask"]),), g["row"], g["index"]) for g in state["groups"]
        ]
        experience = Experience(groups, rebuilt(reader.needs, state["batch"]), tuple(state["repeats"]))
        return cls(state["phase"], experience, state["minibatches"], state["controllers"], {})


@dataclass
class Online:
    """The policy's own completions, as the source of a run's experience."""

    method: Any
    reader: Reader
    roles: Mapping[str, Role]  # those that are needed: `old`, `ref`
    writer: Writer
    shape: tuple[Piece, ...]
    settings: RolloutSection
    batch_size: int
    prompts: Prompts
    splits: Mapping[str, Sequence[Prompt]]  # validation, test
    place_of: Mapping[str, Callable[[int], str]]
    log: RolloutLog
    buffer: Buffer | None = None
    shown: list[Trajectory] = field(default_factory=list)  # of the last phase, for completions.jsonl

    @property
    def num_prompts(self) -> int:
        return self.settings.num_prompts or self.batch_size

    @property
    def steps_per_phase(self) -> int:
        return self.settings.num_iterations * (self.num_prompts // self.batch_size)

    def held_out(self, split: str) -> Sequence[int]:
        return [p.row for p in self.splits[split]]

    def next(self, progress: Progress) -> Portion:
        phase, at = divmod(progress.step, self.steps_per_phase)
        if self.buffer is None or self.buffer.phase != phase:
            assert at == 0, f"step {progress.step} is in the middle of an experience that is not there"
            self.buffer = self._phase(phase, progress)
        buffer = self.buffer
        rows = [minibatch for one_pass in buffer.minibatches for minibatch in one_pass][at]
        metrics = buffer.metrics if at == 0 else {}
        return Portion(buffer.experience.select(rows), self._method(buffer.controllers), metrics)

    def state(self, progress: Progress) -> Any:
        phase = progress.step // self.steps_per_phase
        return self.buffer.state() if self.buffer is not None and self.buffer.phase == phase else None

    def close(self) -> None:
        self.writer.judge.close()

    def restore(self, state: Mapping[str, Any]) -> None:
        self.buffer = Buffer.restored(state, self.reader)

    def evaluate(self, split: str, tick: Callable[[int], Any]) -> Evaluation:
        """Greedy completions of held-out prompts, and what they earn."""
        greedy = dataclasses.replace(self.writer.sampling, temperature=0.0)
        writer = dataclasses.replace(self.writer, sampling=greedy, num_generations=1)
        written: list[Trajectory] = []
        for chunk in writer.chunks(self.splits[split]):
            written += writer.write(chunk, 0, Seconds())
            tick(len(chunk))
        return held_out_rewards(written, self._rewards(written))

    # ---- a phase ----------------------------------------------------------------------------------------------------

    def _phase(self, phase: int, progress: Progress) -> Buffer:
        controllers = dict(progress.controllers)
        method, seconds = self._method(controllers), Seconds()
        start, written, whole = progress.num_prompts, [], None
        for _ in range(1 + self.settings.max_refills):
            prompts = self.prompts(start, start + self.num_prompts)
            start += len(prompts)
            written += self._written(prompts, phase, progress.step, seconds)
            began = time.perf_counter()
            whole, rewards = self._experience(written, method)
            kept = self._kept(method, whole, written)
            scored = time.perf_counter() - began
            if len(set(whole.batch.groups[kept.any(-1)].tolist())) >= self.num_prompts:
                break
        assert whole is not None
        metrics = phase_metrics(written, rewards, whole, kept, self.writer.judge)
        metrics |= {"seconds_generate": seconds.generate, "seconds_reward": seconds.reward, "seconds_score": scored}
        progress.num_prompts = start
        progress.controllers = controllers | method.controllers(whole.batch)
        self.shown = written
        return Buffer(phase, *self._minibatches(whole, kept, phase), controllers, metrics)

    def _method(self, controllers: Mapping[str, float]) -> Any:
        return dataclasses.replace(self.method, **controllers) if controllers else self.method

    def _written(self, prompts: Sequence[Prompt], phase: int, step: int, seconds: Seconds) -> list[Trajectory]:
        """Chunk by chunk; those that an earlier process finished with the same weights are read, not written again."""
        done = self.log.found(phase, step, self.reader.world)
        written: list[Trajectory] = []
        for chunk in self.writer.chunks(prompts):
            numbers = {p.number for p in chunk}
            there = [t for t in done if t.number in numbers]
            if len(there) == len(chunk) * self.writer.num_generations:
                written += there
                continue
            made = self.writer.write(chunk, step, seconds)
            self.log.append(phase, made)
            written += made
        return written

    def _rewards(self, written: Sequence[Trajectory]) -> Tensor:
        """(B,) float32, shaped; NaN where nothing could be judged."""
        totals = [self.writer.judge.total(t.rewards) for t in written]
        found = torch.tensor([float("nan") if v is None else v for v in totals], dtype=torch.float32)
        judged = ~found.isnan()
        ends = Ends(
            finished=torch.tensor([t.finished for t in written], dtype=torch.bool)[judged],
            lengths=torch.tensor([len(t.tokens) for t in written])[judged],
        )
        found[judged] = shaped(found[judged], ends, self.shape)
        return found

    def _experience(self, written: Sequence[Trajectory], method: Any) -> tuple[Experience, Tensor]:
        """All that was judged, with its stored columns and advantages; and every reward."""
        rewards = self._rewards(written)
        judged = [(t, r) for t, r in zip(written, rewards.tolist(), strict=True) if r == r]
        numbers = {n: i for i, n in enumerate(dict.fromkeys(t.number for t, _ in judged))}
        groups = [
            Group(
                (tokens_of(t.prompt, t.tokens, [True] * len(t.tokens)),),
                {"group": float(numbers[t.number]), "reward": r}, t.row,
            )
            for t, r in judged
        ]  # fmt: skip
        stored, repeats = self._stored(groups, [t.logps for t, _ in judged])
        batch = method.advantages(empty_batch(self.reader.needs, groups, stored))
        return Experience(groups, batch, repeats), rewards

    def _stored(
        self, groups: Sequence[Group], logps: Sequence[Sequence[float]]
    ) -> tuple[dict[tuple[str, str], Tensor], tuple[str, ...]]:
        """The stored columns; those that no role makes repeat the policy's log-probabilities."""
        (member,) = self.reader.needs.members
        width = max((len(g.members[0].completion) for g in groups), default=0)
        sampler = torch.zeros(len(groups), width)
        for i, row in enumerate(logps):
            sampler[i, : len(row)] = torch.tensor(row)
        stored = {(member, "sampler_logps"): sampler, **stored_columns(self.reader, groups, self.roles)}
        missing = [c for c in self.reader.needs.stored(member) if (member, c) not in stored]
        repeats = () if "old" in self.roles else tuple(missing)
        for column in missing:
            stored[member, column] = stored.get((member, "old_logps"), torch.zeros_like(sampler))
        return stored, repeats

    def _kept(self, method: Any, whole: Experience, written: Sequence[Trajectory]) -> Tensor:
        """(B, T): what is learned from."""
        mask = whole.batch.completion.mask
        kept = method.keep(whole.batch)
        kept = mask & (kept if kept.ndim == 2 else kept[:, None])
        if self.settings.mask_truncated:
            cut = {(t.number, t.place) for t in written if not t.finished}
            numbers = [(t.number, t.place) for t in written if self.writer.judge.total(t.rewards) is not None]
            kept = kept & ~torch.tensor([n in cut for n in numbers])[:, None]
        return kept

    def _minibatches(self, whole: Experience, kept: Tensor, phase: int) -> tuple[Experience, list[list[list[int]]]]:
        """The experience with its masks narrowed, and the rows of each step, prompts kept together."""
        count = self.num_prompts // self.batch_size
        rows_of = _rows_of_groups(whole.batch.groups, kept)
        if len(rows_of) < count:  # too little is left for a step each: everything is learned from, at its advantages
            kept = whole.batch.completion.mask
            rows_of = _rows_of_groups(whole.batch.groups, kept)
        rows_of = rows_of[: self.num_prompts]
        narrowed = dataclasses.replace(whole.batch.completion, mask=kept)
        experience = dataclasses.replace(whole, batch=dataclasses.replace(whole.batch, completion=narrowed))
        passes: list[list[list[int]]] = []
        for number in range(self.settings.num_iterations):
            order = np.arange(len(rows_of))
            if count > 1:
                order = np.random.default_rng(seed_of(self.writer.seed, phase, number)).permutation(order)
            passes.append([[r for g in part for r in rows_of[g]] for part in np.array_split(order, count)])
        return experience, passes


def _rows_of_groups(groups: Tensor, kept: Tensor) -> list[list[int]]:
    """For each prompt of which something is kept, the rows of which something is."""
    found: dict[int, list[int]] = {}
    for row, (group, some) in enumerate(zip(groups.tolist(), kept.any(-1).tolist(), strict=True)):
        if some:
            found.setdefault(int(group), []).append(row)
    return list(found.values())


def tokens_of(prompt: Sequence[int], completion: Sequence[int], mask: Sequence[bool]) -> Tokens:
    return Tokens(np.array(prompt, dtype=np.int32), np.array(completion, dtype=np.int32), np.array(mask, dtype=bool))

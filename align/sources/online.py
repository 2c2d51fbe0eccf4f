"""Experience that the policy writes itself.

    prompts -> completions -> rewards -> [method.resample -> more of both] -> harvest -> minibatches

An experience lasts for a fixed number of steps, `num_iterations` passes over `num_prompts / batch_size` minibatches, so
that the step alone says where in it a run is. What has been written of the experience under way is kept in the run
folder, line by line; what is being learned from is part of every checkpoint that is taken before its end.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from align.errors import UserError
from align.rollout.ahead import Ahead
from align.rollout.comparing import compared
from align.rollout.draws import seed_of
from align.rollout.jobs import Slots, jobs_of
from align.rollout.log import RolloutLog
from align.rollout.settings import RolloutSection
from align.rollout.writer import Job, Prompt, Seconds, Trajectory, Writer, from_line, line
from align.runfolder.logs import Completion
from align.scoring.experience import Batching
from align.sources.audit import Auditor
from align.sources.buffer import LENGTH, Buffer, refuse_middle
from align.sources.harvest import Harvest, Harvester, minibatches, wanted
from align.sources.held_out import Rivals, greedy
from align.sources.rounds import RoundFiles
from align.sources.told import experience_metrics, held_out_rewards
from align.training.controllers import recalling, remembered_of
from align.training.evaluate import Evaluation
from align.training.portion import Past, Portion
from align.training.snapshot import Progress


@dataclass(frozen=True)
class At:
    """Which experience is written when."""

    number: int
    step: int  # optimiser steps of the weights
    oldest: int  # of the weights whose completions, written before, are taken as they are


@dataclass
class Online:
    """The policy's own completions, as the source of a run's experience."""

    method: Any
    writer: Writer
    harvester: Harvester
    batch_size: int  # prompts of a step
    prompts: Callable[[int, int], Sequence[Prompt]]  # start, stop of an endless stream of them
    splits: Mapping[str, Sequence[Prompt]]  # validation, test
    place_of: Mapping[str, Callable[[int], str]]
    log: RolloutLog
    audit: Auditor | None = None
    num_shown: int = 8  # held-out prompts whose completions are told
    num_steps: int = 0  # of the run; an experience after its last step is not begun
    buffer: Buffer | None = None
    ahead: Ahead | None = None
    slots: Slots | None = None  # where completions are written a window at a time
    rounds: RoundFiles | None = None  # where each experience is one
    rivals: Rivals | None = None  # that evaluations of a game are against

    def __post_init__(self):
        if self.settings.window:
            count = self.settings.num_generations
            self.slots = Slots(self.num_prompts * count, count, self.settings.window)

    @property
    def settings(self) -> RolloutSection:
        return self.harvester.settings

    @property
    def batching(self) -> Batching:
        return self.harvester.batching

    @property
    def num_prompts(self) -> int:
        return self.settings.num_prompts or self.batch_size

    @property
    def steps_per_experience(self) -> int:
        return self.settings.lasting(self.batch_size)

    def held_out(self, split: str) -> Sequence[int]:
        return [p.row for p in self.splits[split]]

    def next(self, progress: Progress) -> Portion:
        number, at = divmod(progress.step, self.steps_per_experience)
        if self.buffer is None or self.buffer.number != number:
            assert at == 0, f"step {progress.step} is in the middle of an experience that is not there"
            if any(move.how in ("extrapolate", "put back") for move in self.method.moves()):
                self.writer.engines.moved()
            self.buffer = self._experience(number, progress)
        if at == 0:  # also on resume, where it failed before all of it was written: later weights must not end it
            self._go_ahead(number + 1, progress)
        return self.buffer.portion(at, self.method)

    def state(self, progress: Progress) -> Any:
        begun, number = self._begun(progress), progress.step // self.steps_per_experience
        buffer = self.buffer.state() if self.buffer is not None and begun > number else None
        ahead = []
        if self.ahead is not None:
            self.ahead.wait()
        if self.settings.staleness:  # also what was written before this process was begun
            ahead = [line(t, begun) for t in self.log.lines(begun)]
        slots = self.slots.state(number) if self.slots else None
        return {"buffer": buffer, "ahead": ahead, "slots": slots} if buffer or ahead or slots else None

    def restore(self, progress: Progress, state: Mapping[str, Any] | None, past: Past) -> None:
        """What is learned from stays what it was, also where the recipe has changed; nothing else does then."""
        state = state or {"buffer": None, "slots": None, "ahead": []}
        self._refuse_middle(progress.step, state)
        if state["buffer"] is not None:
            self.buffer = Buffer.restored(state["buffer"], self.batching)
        if self.slots and state["slots"]:
            self.slots = self.slots.restored(state["slots"])
        if past.foreign:
            self.log.forget(0, -1)
        self.log.forget(self._begun(progress), -1 if past.changed else progress.step)
        if self.rounds:
            self.rounds.forget(self._begun(progress), progress.step)
        if state["ahead"] and not past.changed:
            self.log.put_back(state["ahead"][0]["step"], [from_line(row) for row in state["ahead"]])

    def _refuse_middle(self, step: int, state: Mapping[str, Any]) -> None:
        """UserError where experiences have another length now and one is under way."""
        refuse_middle(step, state["buffer"], self.steps_per_experience)
        size = len(state["slots"]["live"]) if state["slots"] else 0
        if self.slots and size not in (0, self.slots.size):
            raise UserError(
                f"rollout.num_generations, {LENGTH}: {size} completions are under way and are gone on with, "
                f"this recipe has {self.slots.size}. Put the old values back"
            )

    def _begun(self, progress: Progress) -> int:
        """The experience that may have been begun and is not learned from yet."""
        number = progress.step // self.steps_per_experience
        return number if self.buffer is None or self.buffer.number != number else number + 1

    def close(self) -> None:
        if self.ahead is not None:
            self.ahead.wait()
        self.writer.reward_functions.close()
        self.writer.engines.close()

    def show(self, step: int, version: int) -> list[Completion]:
        """Of the validation split, so that the same prompts are seen again and again; of the test split without one."""
        self._join()
        prompts = (self.splits["validation"] or self.splits["test"])[: self.num_shown]
        written = greedy(self.writer, prompts, version, lambda done: None)
        return [self._shown(t, step) for t in written] if self.batching.world.main else []

    def _shown(self, written: Trajectory, step: int) -> Completion:
        return Completion(
            step=step, policy_version=written.version, prompt=self.writer.text(written.prompt), text=written.text,
            prompt_length=len(written.prompt), completion_length=len(written.tokens), stop_reason=written.stop,
            rewards=written.rewards,
        )  # fmt: skip

    def evaluate(self, split: str, version: int, tick: Callable[[int], Any]) -> Evaluation:
        """Greedy completions of held-out prompts, and what they earn."""
        self._join()
        written = greedy(self.writer, self.splits[split], version, tick)
        if self.rivals:
            written = self.rivals.judge(self.writer, split, self.splits[split], written)
        shown = tuple(self._shown(t, version) for t in written[: self.num_shown])
        found = held_out_rewards(written, self.harvester.rewards(written, held_out=True))
        if self.rounds and split == "validation":
            self.rounds.evaluated(version, found)
        return dataclasses.replace(found, completions=shown)

    def rehearse(self, count: int) -> tuple[list[Trajectory], Harvest, Seconds]:
        """The first prompts' completions, judged, as an experience that nobody learns from."""
        seconds, places, prompts = Seconds(), tuple(range(self.settings.num_generations)), self.prompts(0, count)
        written: list[Trajectory] = []
        for chunk in self.writer.chunks([Job(prompt=p, places=places) for p in prompts]):
            written += self.writer.write(chunk, 0, seconds)
        written = compared(self.writer, written, {p.number: p for p in prompts}, list, seconds)
        return written, self.harvester.harvest(written, self.method), seconds

    # ---- an experience ----------------------------------------------------------------------------------------------

    def _experience(self, number: int, progress: Progress) -> Buffer:
        controllers = dict(progress.controllers)
        method, seconds, rounds = recalling(self.method, controllers), self._join(), 0
        self.ahead = None
        at = At(number, progress.step, progress.step - (self.steps_per_experience if self.settings.staleness else 0))
        start, written = progress.num_prompts, list[Trajectory]()
        while True:
            if self.slots:
                written = self._written(self.slots.jobs(self.prompts), at, seconds)
            else:
                prompts = self.prompts(start, start + self.num_prompts)
                start += len(prompts)
                written += self._round(prompts, method, at, seconds)
            rounds += 1
            began = time.perf_counter()
            harvest = self.harvester.harvest(written, method)
            seconds.score += time.perf_counter() - began
            if self.slots or harvest.num_groups >= self.num_prompts or rounds > self.settings.max_refills:
                break
        if self.audit:
            numbers = {t.number for t in harvest.rows}
            began = time.perf_counter()
            self.audit(number, progress.step, harvest, {n: self.prompts(n, n + 1)[0] for n in numbers})
            seconds.audit = time.perf_counter() - began
        if self.rounds:
            self.rounds.judged(number, written, harvest, lambda n: self.prompts(n, n + 1)[0])
        metrics = experience_metrics(harvest, written, self.harvester) | harvest.metrics
        metrics |= seconds.told() | self.writer.engines.told()
        if self.settings.staleness:
            metrics["policy_lag"] = progress.step - sum(t.version for t in written) / len(written)
        if self.slots:  # here, where nothing can fail any more: a checkpoint has both or neither
            self.slots.take(written)
            start = self.slots.num_prompts
        progress.num_prompts = start
        progress.controllers = controllers | remembered_of(method, harvest.whole.batch)
        sizes, seed = (self.num_prompts, self.batch_size), seed_of(self.writer.seed, number)
        return Buffer(number, *minibatches(harvest, self.settings, sizes, seed), controllers, metrics)

    def _go_ahead(self, number: int, progress: Progress) -> None:
        """Writes the next experience, where one is wanted, by the weights of now; beside the training if it can be."""
        last = progress.step + self.steps_per_experience >= self.num_steps
        if not self.settings.staleness or self.log.replay or last:
            return
        places = tuple(range(self.settings.num_generations))
        prompts = self.prompts(progress.num_prompts, progress.num_prompts + self.num_prompts)
        jobs, at = [Job(prompt=p, places=places) for p in prompts], At(number, progress.step, progress.step)
        alone = self.batching.world.size == 1  # a thread of each rank would mix its exchanges with the training's
        with self.writer.engines.at(progress.step):
            pass  # a server is given the weights now, before they change
        self.ahead = Ahead(
            lambda seconds: self._written(jobs, at, seconds), beside=self.writer.engines.beside and alone
        )

    def _join(self) -> Seconds:
        return self.ahead.join() if self.ahead is not None else Seconds()

    def _round(self, prompts: Sequence[Prompt], method: Any, at: At, seconds: Seconds) -> list[Trajectory]:
        """Completions of these prompts, and whatever the method asks for in addition, until it asks for nothing."""
        places = tuple(range(self.settings.num_generations))
        written = self._written([Job(prompt=p, places=places) for p in prompts], at, seconds)
        by_number, before = {p.number: p for p in prompts}, 0
        while method.resamples():
            judged, batch = self.harvester.unscored(written)
            asks = wanted(method, batch)
            if not asks or len(judged) == before:  # what cannot be judged would be asked for again and again
                break
            before, taken = len(judged), collections.Counter(t.number for t in written)
            jobs = jobs_of(asks, judged, taken, by_number, self.writer.hints)
            written = written + self._written(jobs, at, seconds)
        keep = functools.partial(self.log.append, at.number)
        return compared(self.writer, written, by_number, keep, seconds)

    def _written(self, jobs: Sequence[Job], at: At, seconds: Seconds) -> list[Trajectory]:
        """Chunk by chunk; those that were finished before, by weights that will do, are read, not written again."""
        number, world = at.number, self.batching.world
        known = (
            self.log.replayed(number, world) if self.log.replay else self.log.found(number, (at.oldest, at.step), world)
        )
        done = {(t.number, t.place): t for t in known}
        written: list[Trajectory] = []
        for chunk in self.writer.chunks(jobs):
            wanted = [(job.prompt.number, place) for job in chunk for place in job.places]
            if all(key in done for key in wanted):
                written += [done[key] for key in wanted]
                continue
            if self.log.replay:
                lost = next(key for key in wanted if key not in done)
                world.fail(
                    f"rollout.replay: experience {number} has no completion {lost[1]} of prompt {lost[0]}; the "
                    "recorded run has other data, seed, num_generations, num_prompts or max_refills"
                )
            made = self.writer.write(chunk, at.step, seconds)
            self.log.append(number, made)
            written += made
        return written

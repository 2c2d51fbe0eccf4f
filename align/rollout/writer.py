"""Writing: every rank writes completions for its share of the prompts, has them judged, and tells the others.

Work is cut into chunks whose borders depend on the recipe and the world alone. A chunk is written and judged as a
whole; whoever keeps the finished ones (see `record`) can go on after them.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np

from align.batches import BY_POLICY
from align.errors import AlignError, Lost, RunError
from align.outside import own
from align.rewards.base import Sample
from align.rewards.verdicts import Earned, RewardFunctions
from align.rollout.draws import seed_of
from align.rollout.engine import Engine, Request, Sampling, StopReason, Written
from align.rollout.policy_engine import Engines, Texts, text_of
from align.rollout.turns import Talk, Turns
from align.world.distributed import World
from align.world.stages import doing

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """A prompt whose turn it is."""

    row: int  # of the prepared data
    number: int  # how many prompts had their turn before it
    tokens: np.ndarray
    columns: Mapping[str, Any]  # of the data row, `prompt` among them


@dataclass(frozen=True, kw_only=True)
class Job:
    """Completions of a prompt that are written together."""

    prompt: Prompt
    places: tuple[int, ...]  # their numbers among the prompt's completions; with the prompt's, what seeds them
    greedy: bool = False
    auxiliary: bool = False
    learned: bool = False
    hint: int = 0  # that `prompt` is told
    begun: Trajectory | None = None  # whose first tokens they begin with
    given: int = 0  # how many of them
    window: int = 0  # new tokens at most; 0: to the end
    writer: str = BY_POLICY

    @property
    def prefix(self) -> list[int]:
        return self.begun.tokens[: self.given] if self.begun else []


@dataclass(frozen=True, kw_only=True)
class Trajectory:
    """A completion with its verdicts; plain values, so that a line of JSON holds it."""

    row: int
    number: int
    place: int  # which of the prompt's completions
    prompt: list[int]
    tokens: list[int]
    logps: list[float]  # the engine's
    stop: str  # a StopReason
    version: int  # optimiser steps of the policy when it was written
    text: str
    asked: str = ""  # the prompt's text, for who reads the file
    mask: list[bool] = field(default_factory=list)  # True: the policy's own token; empty: all are
    auxiliary: bool = False  # a method has asked for it
    learned: bool = False  # an auxiliary one that may be learned from
    given: int = 0  # tokens that were there before: not among those of an auxiliary one, the first of any other
    source: int = 0  # the place of the completion that an auxiliary one begins like
    hint: int = 0  # that the prompt was told, counted from 1
    num_hints: int = 0  # that there are for it
    steps: list[int] = field(default_factory=list)  # first tokens of its steps, where they are counted
    rewards: dict[str, float | None] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)  # reward functions that could not judge it, and why
    writer: str = BY_POLICY  # or the role of another model

    @property
    def finished(self) -> bool:
        return self.stop != StopReason.LENGTH

    @property
    def done(self) -> bool:
        """Whether it will not go on in the next experience."""
        return self.stop != StopReason.WINDOW

    @property
    def length(self) -> int:
        """Tokens of the whole completion."""
        return len(self.tokens) + (self.given if self.auxiliary else 0)

    @property
    def num_written(self) -> int:
        """Tokens written in this experience."""
        return len(self.tokens) - (0 if self.auxiliary else self.given)

    @property
    def by_policy(self) -> list[bool]:
        """For each token whether the policy wrote it; an environment wrote the others."""
        return self.mask or [True] * len(self.tokens)


@runtime_checkable
class Hints(Protocol):
    """What the data have to help with a prompt, from the least to the most."""

    def count(self, prompt: Prompt) -> int: ...

    def told(self, prompt: Prompt, hint: int) -> Prompt:
        """The prompt with a hint, counted from 1."""
        ...


@dataclass
class Seconds:
    """Where the time of an experience went, on this rank."""

    generate: float = 0.0
    reward: float = 0.0
    score: float = 0.0
    audit: float = 0.0  # where there is one

    def told(self) -> dict[str, float]:
        return {f"seconds_{name}": value for name, value in vars(self).items() if name != "audit" or value}


@dataclass(frozen=True)
class Writer:
    """What completions are written and judged with."""

    engines: Engines
    tokenizer: Texts
    reward_functions: RewardFunctions
    world: World
    sampling: Sampling
    chunk_rows: int  # completions of a rank that are written and judged together
    seed: int
    turns: Turns | None = None  # None: a completion is one turn
    steps: Callable[[Sequence[int]], list[int]] | None = None  # tokens -> those that begin a step; None: not wanted
    hints: Hints | None = None  # None: not wanted

    def chunks(self, jobs: Sequence[Job]) -> Iterator[Sequence[Job]]:
        """As many jobs as all ranks together have rows for; at least one for each rank."""
        held: list[Job] = []
        for job in jobs:
            rows = sum(len(j.places) for j in (*held, job))
            if len(held) >= self.world.size and rows > self.chunk_rows * self.world.size:
                yield held
                held = []
            held.append(job)
        if held:
            yield held

    @doing("generating")
    def write(self, chunk: Sequence[Job], version: int, seconds: Seconds) -> list[Trajectory]:
        """The chunk's completions, job by job, the same on every rank."""
        mine = list(chunk)[self.world.rank :: self.world.size]
        writers = tuple(dict.fromkeys(job.writer for job in chunk))  # all ranks ask for each of them together
        found = {(t.number, t.place): t for t in self.everyones(lambda: self._write(mine, writers, version, seconds))}
        return [found[job.prompt.number, place] for job in chunk for place in job.places]

    def everyones(self, make: Callable[[], list[T]]) -> list[T]:
        """What every rank makes, one rank's after the other's; what fails on one of them fails on all."""
        try:
            made, failure = make(), None
        except AlignError as error:
            made, failure = list[T](), error
        told = self.world.everyone((made, failure and (str(failure), failure.exit_code)))
        if failure:
            raise failure
        if trouble := next((of_rank for _, of_rank in told if of_rank), None):
            raise (Lost if trouble[1] == Lost.exit_code else RunError)(trouble[0])
        return [one for part, _ in told for one in part]

    def _write(
        self, jobs: Sequence[Job], writers: Sequence[str], version: int, seconds: Seconds
    ) -> list[Trajectory]:
        started = time.perf_counter()
        rows = self._rows(jobs, writers, version)
        seconds.generate += time.perf_counter() - started
        started = time.perf_counter()
        ended = {
            i: self.sample(job.prompt, place, job.prefix + written.tokens.tolist())
            for i, (job, place, written, _) in enumerate(rows)
            if written.stop != StopReason.WINDOW
        }
        with doing("rewarding"):
            verdicts = dict(zip(ended, self.reward_functions(list(ended.values())), strict=True))
        seconds.reward += time.perf_counter() - started
        return [self._trajectory(row, verdicts.get(i, Earned({}))) for i, row in enumerate(rows)]

    def _trajectory(self, row: tuple[Job, int, Written, list[bool]], judged: Earned) -> Trajectory:
        job, place, written, mask = row
        tokens, logps, source = written.tokens.tolist(), written.logps.tolist(), 0
        if job.begun and job.auxiliary:
            source = job.begun.place
        elif job.begun:
            tokens, logps = job.begun.tokens + tokens, job.begun.logps + logps
        return Trajectory(
            row=job.prompt.row, number=job.prompt.number, place=place, prompt=job.prompt.tokens.tolist(),
            tokens=tokens, logps=logps, stop=str(written.stop), version=written.version, text=self.text(tokens),
            asked=self.text(job.prompt.tokens), mask=mask,
            auxiliary=job.auxiliary, learned=job.learned, given=job.given, source=source, hint=job.hint,
            num_hints=self.hints.count(job.prompt) if self.hints else 0, rewards=judged.rewards, failed=judged.failed,
            steps=self.steps(tokens) if self.steps and not job.auxiliary else [], writer=job.writer,
        )  # fmt: skip

    def _rows(
        self, jobs: Sequence[Job], writers: Sequence[str], version: int
    ) -> list[tuple[Job, int, Written, list[bool]]]:
        """The job, the place, the completion and its mask of every row; each writer's by themselves, and of these the
        greedy ones."""
        requests = [self._request(job) for job in jobs]
        answers: list[list[tuple[Written, list[bool]]]] = [[] for _ in jobs]
        for writer in writers:
            with self.engines.at(version, writer) as engine:
                for greedy in (False, True):
                    picked = [i for i, job in enumerate(jobs) if (job.greedy, job.writer) == (greedy, writer)]
                    sampling = dataclasses.replace(self.sampling, temperature=0.0) if greedy else self.sampling
                    found = engine.write([requests[i] for i in picked], sampling)
                    said = self._said(engine, [jobs[i] for i in picked], found, sampling)
                    for i, of_job in zip(picked, said, strict=True):
                        answers[i] = of_job
        return [
            (job, place, written, mask)
            for job, found in zip(jobs, answers, strict=True)
            for place, (written, mask) in zip(job.places, found, strict=True)
        ]

    def _request(self, job: Job) -> Request:
        seeds = tuple(self._seed(job.prompt, place) for place in job.places)
        return Request(job.prompt.tokens, seeds, np.array(job.prefix, dtype=np.int32), job.window)

    def _said(
        self, engine: Engine, jobs: Sequence[Job], found: Sequence[Sequence[Written]], sampling: Sampling
    ) -> list[list[tuple[Written, list[bool]]]]:
        """With the further turns, where there is an environment; the mask of a single turn is empty."""
        if self.turns is None:
            return [[(written, []) for written in of_job] for of_job in found]
        talks = [[self._talk(job, p, w) for p, w in zip(job.places, ws, strict=True)]
                 for job, ws in zip(jobs, found, strict=True)]  # fmt: skip
        self.turns.go_on(engine, [talk for of_job in talks for talk in of_job], sampling)
        return [
            [(talk.written(w.version), talk.mask) for talk, w in zip(of_job, ws, strict=True)]
            for of_job, ws in zip(talks, found, strict=True)
        ]

    def _talk(self, job: Job, place: int, first: Written) -> Talk:
        prompt = job.prompt
        told = own({name: value for name, value in prompt.columns.items() if name != "prompt"})
        where = f"step {first.version}, row {prompt.row} of the prepared data, completion {place}"
        talk = Talk(prompt.tokens, self._seed(prompt, place), own(prompt.columns["prompt"]), told, where)
        talk.take(first)
        return talk

    def sample(self, prompt: Prompt, place: int, tokens: list[int]) -> Sample:
        """A whole completion, as rewards see it, with what it began with."""
        columns = prompt.columns
        asked, text = columns["prompt"], self.text(tokens)
        told = {name: value for name, value in columns.items() if name != "prompt"}
        completion: Any = text if isinstance(asked, str) else [{"role": "assistant", "content": text}]
        seed = self._seed(prompt, place)
        return Sample(prompt=asked, completion=completion, completion_ids=tokens, columns=told, seed=seed)

    def _seed(self, prompt: Prompt, place: int) -> int:
        return seed_of(self.seed, prompt.number, place)

    def text(self, ids: Sequence[int] | np.ndarray) -> str:
        return text_of(self.tokenizer, ids)


def line(trajectory: Trajectory, step: int) -> dict[str, Any]:
    """Who wrote it is said where it was not the policy, so that older lines say it as well."""
    told = {"step": step, **vars(trajectory)}
    return {name: value for name, value in told.items() if (name, value) != ("writer", BY_POLICY)}


def from_line(row: Mapping[str, Any]) -> Trajectory:
    return Trajectory(**{k: v for k, v in row.items() if k != "step"})

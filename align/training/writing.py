"""The rollout phase: every rank writes completions for its share of the prompts, has them judged, and tells the others.

Work is cut into chunks whose borders depend on the recipe and the world alone. A chunk is written and judged as a
whole; whoever keeps the finished ones (see `record`) can go on after them.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch

from align.errors import AlignError, RunError
from align.models.load import writing
from align.rewards.base import Sample
from align.rewards.judge import Judge
from align.rollout.draws import seed_of
from align.rollout.engine import Request, Sampling, StopReason, Written
from align.rollout.local_engine import LocalEngine
from align.training.distributed import World
from align.training.samples import unsharded


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
    version: int  # optimiser steps of the weights that wrote it
    text: str
    auxiliary: bool = False  # judged, but never learned from
    rewards: dict[str, float | None] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)  # reward functions that could not judge it, and why

    @property
    def finished(self) -> bool:
        return self.stop != StopReason.LENGTH


@dataclass
class Seconds:
    """Where the time of a phase went, on this rank."""

    generate: float = 0.0
    reward: float = 0.0
    score: float = 0.0

    def told(self) -> dict[str, float]:
        return {f"seconds_{name}": value for name, value in vars(self).items()}


@runtime_checkable
class Texts(Protocol):
    """The part of a tokenizer that is needed here."""

    pad_token_id: int

    def decode(self, ids: Any, **options: Any) -> str: ...


@dataclass(frozen=True)
class Writer:
    """What a phase is made with."""

    module: Any  # the prepared Scorer
    tokenizer: Texts
    judge: Judge
    world: World
    sampling: Sampling
    max_rows: int  # that this rank writes side by side
    seed: int

    def chunks(self, jobs: Sequence[Job]) -> Iterator[Sequence[Job]]:
        """As many jobs as all ranks together have rows for; at least one for each rank."""
        held: list[Job] = []
        for job in jobs:
            rows = sum(len(j.places) for j in (*held, job))
            if len(held) >= self.world.size and rows > self.max_rows * self.world.size:
                yield held
                held = []
            held.append(job)
        if held:
            yield held

    def write(self, chunk: Sequence[Job], version: int, seconds: Seconds) -> list[Trajectory]:
        """The chunk's completions, job by job, the same on every rank."""
        mine = list(chunk)[self.world.rank :: self.world.size]
        try:
            made, failure = self._write(mine, version, seconds), None
        except AlignError as error:
            made, failure = [], error
        told = self.world.everyone((made, str(failure) if failure else ""))
        if failure:
            raise failure
        if trouble := next((text for _, text in told if text), ""):
            raise RunError(trouble)
        found = {(t.number, t.place): t for part, _ in told for t in part}
        return [found[job.prompt.number, place] for job in chunk for place in job.places]

    def _write(self, jobs: Sequence[Job], version: int, seconds: Seconds) -> list[Trajectory]:
        started = time.perf_counter()
        flat = list(zip(*self._texts(jobs, version), strict=True))
        seconds.generate += time.perf_counter() - started
        started = time.perf_counter()
        verdicts = self.judge([self._sample(job.prompt, written) for job, _, written in flat])
        seconds.reward += time.perf_counter() - started
        return [
            Trajectory(
                row=job.prompt.row, number=job.prompt.number, place=place, prompt=job.prompt.tokens.tolist(),
                tokens=w.tokens.tolist(), logps=w.logps.tolist(), stop=str(w.stop), version=w.version,
                text=self.text(w.tokens), auxiliary=job.auxiliary, rewards=verdict.rewards, failed=verdict.failed,
            )
            for (job, place, w), verdict in zip(flat, verdicts, strict=True)
        ]  # fmt: skip

    def _texts(self, jobs: Sequence[Job], version: int) -> tuple[list[Job], list[int], list[Written]]:
        """The job, the place and the completion of every row; the greedy ones are written by themselves."""
        requests = [Request(j.prompt.tokens, tuple(self._seed(j.prompt, p) for p in j.places)) for j in jobs]
        answers: list[list[Written]] = [[] for _ in jobs]
        with generating(self.module, self.world) as model:
            engine = LocalEngine(model, self.tokenizer.pad_token_id, self.text, self.max_rows, version)
            for greedy in (False, True):
                picked = [i for i, job in enumerate(jobs) if job.greedy == greedy]
                sampling = dataclasses.replace(self.sampling, temperature=0.0) if greedy else self.sampling
                for i, found in zip(picked, engine.write([requests[i] for i in picked], sampling), strict=True):
                    answers[i] = found
        rows = [
            (job, place, w)
            for job, found in zip(jobs, answers, strict=True)
            for place, w in zip(job.places, found, strict=True)
        ]
        return [r[0] for r in rows], [r[1] for r in rows], [r[2] for r in rows]

    def _sample(self, prompt: Prompt, written: Written) -> Sample:
        asked, text = prompt.columns["prompt"], self.text(written.tokens)
        told = {name: value for name, value in prompt.columns.items() if name != "prompt"}
        completion: Any = text if isinstance(asked, str) else [{"role": "assistant", "content": text}]
        return Sample(prompt=asked, completion=completion, completion_ids=written.tokens.tolist(), columns=told)

    def _seed(self, prompt: Prompt, place: int) -> int:
        return seed_of(self.seed, prompt.number, place)

    def text(self, ids: Sequence[int] | np.ndarray) -> str:
        return self.tokenizer.decode(list(map(int, ids)), skip_special_tokens=True)


@contextmanager
def generating(module: Any, world: World) -> Iterator[Any]:
    """The policy's model, whole and in evaluation mode, without gradient."""
    model = world.unwrap(module).model
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad(), unsharded(module, world), writing(model):
            yield model
    finally:
        model.train(was_training)


def line(trajectory: Trajectory, step: int) -> dict[str, Any]:
    return {"step": step, **asdict(trajectory)}


def from_line(row: Mapping[str, Any]) -> Trajectory:
    return Trajectory(**{k: v for k, v in row.items() if k != "step"})

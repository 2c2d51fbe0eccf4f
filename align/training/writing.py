"""The rollout phase: every rank writes completions for its share of the prompts, has them judged, and tells the others.

Work is cut into chunks whose borders depend on the recipe and the world alone. A chunk is written and judged as a
whole; whoever keeps the finished ones (see `record`) can go on after them.
"""

from __future__ import annotations

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
    num_generations: int
    max_rows: int
    seed: int

    @property
    def prompts_at_once(self) -> int:
        """Prompts of a chunk, over all ranks."""
        return max(1, self.max_rows // self.num_generations) * self.world.size

    def chunks(self, prompts: Sequence[Prompt]) -> Iterator[Sequence[Prompt]]:
        for start in range(0, len(prompts), self.prompts_at_once):
            yield prompts[start : start + self.prompts_at_once]

    def write(self, chunk: Sequence[Prompt], version: int, seconds: Seconds) -> list[Trajectory]:
        """The chunk's completions, prompt by prompt, the same on every rank."""
        mine = chunk[self.world.rank :: self.world.size]
        try:
            made, failure = self._write(mine, version, seconds), None
        except AlignError as error:
            made, failure = [], error
        told = self.world.everyone((made, str(failure) if failure else ""))
        if failure:
            raise failure
        if trouble := next((text for _, text in told if text), ""):
            raise RunError(trouble)
        return sorted((t for found, _ in told for t in found), key=lambda t: (t.number, t.place))

    def _write(self, prompts: Sequence[Prompt], version: int, seconds: Seconds) -> list[Trajectory]:
        started = time.perf_counter()
        requests = [Request(p.tokens, tuple(self._seed(p, g) for g in range(self.num_generations))) for p in prompts]
        with generating(self.module, self.world) as model:
            engine = LocalEngine(model, self.tokenizer.pad_token_id, self._decode, self.max_rows, version)
            written = engine.write(requests, self.sampling)
        seconds.generate += time.perf_counter() - started
        started = time.perf_counter()
        made = [self._judged(p, answers) for p, answers in zip(prompts, written, strict=True)]
        verdicts = self.judge([sample for samples in made for sample in samples])
        seconds.reward += time.perf_counter() - started
        flat = [(p, g, w) for p, answers in zip(prompts, written, strict=True) for g, w in enumerate(answers)]
        return [
            Trajectory(
                row=p.row, number=p.number, place=g, prompt=p.tokens.tolist(), tokens=w.tokens.tolist(),
                logps=w.logps.tolist(), stop=str(w.stop), version=w.version, text=self._text(w),
                rewards=verdict.rewards, failed=verdict.failed,
            )
            for (p, g, w), verdict in zip(flat, verdicts, strict=True)
        ]  # fmt: skip

    def _judged(self, prompt: Prompt, answers: Sequence[Written]) -> list[Sample]:
        asked = prompt.columns["prompt"]
        told = {name: value for name, value in prompt.columns.items() if name != "prompt"}
        samples: list[Sample] = []
        for written in answers:
            text = self._text(written)
            completion: Any = text if isinstance(asked, str) else [{"role": "assistant", "content": text}]
            samples.append(
                Sample(prompt=asked, completion=completion, completion_ids=written.tokens.tolist(), columns=told)
            )
        return samples

    def _seed(self, prompt: Prompt, place: int) -> int:
        return seed_of(self.seed, prompt.number, place)

    def _text(self, written: Written) -> str:
        return self.tokenizer.decode(written.tokens.tolist(), skip_special_tokens=True)

    def _decode(self, ids: Sequence[int]) -> str:
        return self.tokenizer.decode(list(ids), skip_special_tokens=True)


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

"""Our side of a case in which the policy writes: the finished loop's source of experience and its step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from align.batches import Tokens
from align.methods.grpo import GRPO
from align.rewards.base import Sample
from align.rewards.verdicts import RewardFunctions
from align.rollout.engine import Sampling, StopReason
from align.rollout.log import RolloutLog
from align.rollout.policy_engine import LocalEngines
from align.rollout.settings import RolloutSection
from align.rollout.writer import Job, Prompt, Seconds, Trajectory, Writer
from align.scoring.experience import ModelRole, Role
from align.sources.harvest import Harvester, minibatches
from align.sources.online import Online
from align.training.snapshot import Progress
from tests.bench.cases import Case, Row, earned, words
from tests.bench.clock import Clock, Parts
from tests.bench.clock import Seconds as Wall
from tests.bench.our_side import Loaded

SEED = 11


class OurOnline:
    """Options: any keys of the recipe's section `training` (layout, max_tokens, mixed_precision, ...)."""

    def __init__(self, case: Case, rows: Sequence[Row], folder: Path, options: dict[str, Any]):
        self.case, self.rows = case, rows
        self.loaded = Loaded.of(folder, "lm", options)
        self.method = GRPO(kl_coef=case.beta)
        self.notes: list[str] = []
        picked = [[_tokens(row.prompt, c) for c in row.completions] for row in rows]
        self.batching = self.loaded.batching(self.method.needs(), picked, self.notes.append)
        self.notes.append(f"layout {self.batching.layout}")
        self.parts = Parts()
        self.source = self._source(folder)

    def _source(self, folder: Path) -> Online:
        case, loaded = self.case, self.loaded
        settings = RolloutSection(num_generations=case.group_size, max_completion_length=case.completion)
        functions = RewardFunctions({"earned": earned}, {"earned": 1.0})
        # nothing ends a completion: the number of this token is one that the model does not have
        sampling = Sampling(max_completion_length=case.completion, stop_token_ids=(case.shape.vocab_size,))
        engines = LocalEngines(loaded.trainee.module, loaded.tokenizer, settings.max_rows, loaded.world)
        writer = Writer(engines, loaded.tokenizer, functions, loaded.world, sampling, settings.max_rows, SEED)
        roles: dict[str, Role] = {"ref": ModelRole(loaded.reference(folder))} if case.beta else {}
        log = RolloutLog(folder / f"rollouts-{id(self)}", record=False, main=True)
        return Online(
            method=self.method, writer=writer, harvester=Harvester(self.batching, roles, functions, (), settings),
            batch_size=case.batch_size, prompts=self._prompts, splits={}, place_of={}, log=log,
        )  # fmt: skip

    def _prompts(self, start: int, stop: int) -> list[Prompt]:
        """Again and again the same; their numbers, from which the seeds are made, go on."""
        found: list[Prompt] = []
        for number in range(start, stop):
            ids = self.rows[row := number % len(self.rows)].prompt
            tokens = np.array(ids, dtype=np.int32)
            found.append(Prompt(row=row, number=number, tokens=tokens, columns={"prompt": words(ids)}))
        return found

    # ---- equality ---------------------------------------------------------------------------------------------------

    def tokens(self) -> list[list[int]]:
        return [p.tokens.tolist() for p in self._prompts(0, len(self.rows)) for _ in range(self.case.group_size)]

    def greedy(self) -> list[list[int]]:
        """The likeliest completion of each prompt."""
        jobs = [Job(prompt=p, places=(0,), greedy=True) for p in self._prompts(0, len(self.rows))]
        return [t.tokens for t in self.source.writer.write(jobs, 0, Seconds())]

    def lengths(self) -> list[int]:
        """Of sampled completions."""
        return [len(t.tokens) for t in self._write(Progress())]

    def columns(self) -> list[list[float]]:
        """Log-probabilities of the given completions."""
        groups = self._given().groups
        found: list[list[float]] = [[] for _ in groups]
        for micro, made in self.batching.score_all(self.loaded.trainee.module, groups, {"completion": ("logps",)}):
            for row, i in enumerate(micro.groups):
                found[i] = made["completion"]["logps"][row, : len(groups[i].members[0].completion)].tolist()
        return found

    def learn(self) -> tuple[float, float]:
        """Loss and gradient norm of a step on the given completions, at a learning rate of 0."""
        result = self.loaded.step(self.method, self._given(), self.batching, 0.0)
        return result.metrics["loss"], result.grad_norm

    def _given(self) -> Any:
        functions, written = self.source.writer.reward_functions, list[Trajectory]()
        for number, row in enumerate(self.rows):
            for place, ids in enumerate(row.completions):
                verdict = functions([Sample(prompt="", completion="", completion_ids=ids)])[0]
                written.append(Trajectory(
                    row=number, number=number, place=place, prompt=row.prompt, tokens=ids, logps=[0.0] * len(ids),
                    stop=str(StopReason.LENGTH), version=0, text="", rewards=verdict.rewards,
                ))  # fmt: skip
        harvest = self.source.harvester.harvest(written, self.method)
        whole, passes = minibatches(harvest, self.source.settings, (len(self.rows), len(self.rows)), 0)
        assert passes == [[list(range(len(written)))]]
        return whole

    # ---- time -------------------------------------------------------------------------------------------------------

    def train(self, wait: Callable[[], bool], done: Callable[[Wall], None]) -> None:
        """A step each time that `wait` says True."""
        progress = Progress()
        while wait():
            self.parts.now, clock = {}, Clock(self.loaded.world.device)
            if self.case.kind == "generate":
                self._write(progress)
            else:
                self._step(progress)
            taken = clock.read()
            self.parts.rest("train" if self.case.kind == "grpo" else "score", taken[0])
            done(taken)

    def _write(self, progress: Progress) -> list[Trajectory]:
        places, seconds = tuple(range(self.case.group_size)), Seconds()
        start = progress.num_prompts
        jobs = [Job(prompt=p, places=places) for p in self._prompts(start, start + len(self.rows))]
        writer = self.source.writer
        written = [t for chunk in writer.chunks(jobs) for t in writer.write(chunk, progress.step, seconds)]
        progress.num_prompts += len(self.rows)
        self.parts.now["generate"] = seconds.generate
        return written

    def _step(self, progress: Progress) -> None:
        portion = self.source.next(progress)
        self.loaded.step(portion.method, portion.experience, self.batching, 1e-6)
        progress.step += 1
        self.parts.add("generate", portion.metrics["seconds_generate"])
        self.parts.add("score", portion.metrics["seconds_score"] + portion.metrics["seconds_reward"])


def _tokens(prompt: list[int], completion: list[int]) -> Tokens:
    ids = np.array(completion, dtype=np.int32)
    return Tokens(np.array(prompt, dtype=np.int32), ids, np.ones(len(ids), dtype=bool))

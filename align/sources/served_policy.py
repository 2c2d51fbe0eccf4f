"""Servers as the engine: they get the policy's weights before anything is written with them.

All ranks take part in gathering the weights; the main process writes them to `server/weights` in the run folder, starts
the servers or has them read it, and proves them: what each writes for one prompt is scored by the policy. Every rank
then sends its own requests.
"""

from __future__ import annotations

import functools
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from align.batches import BY_POLICY, Group, Tokens
from align.errors import AlignError, Elsewhere, RunError
from align.rollout.engine import Engine, Request, Sampling, Written
from align.rollout.policy_engine import Texts, text_of
from align.rollout.vllm.client import ServerError, always_up
from align.rollout.vllm.engine import VLLMEngine
from align.rollout.vllm.fleet import Address, Fleet
from align.rollout.vllm.placed import fallen
from align.rollout.vllm.servers import Servers
from align.rollout.vllm.weights import save_served
from align.scoring.experience import Batching, ModelRole
from align.system.files import remove
from align.training.member_files import whole_weights
from align.training.step import Trainee
from align.world.distributed import World

PROBE = 16  # tokens at most of the completion that proves the weights
GAP = {"cpu": 1e-3, "cuda": 0.15}  # mean difference of a log-probability that rounding may leave


@dataclass
class ServerEngines:
    """The same servers for all ranks."""

    trainee: Trainee
    batching: Batching
    tokenizer: Any
    texts: Texts  # what makes text of completions
    sampling: Sampling
    probe: np.ndarray  # a prompt
    folder: Path
    max_rows: int  # that this rank asks for side by side, of each server
    servers: Servers  # the main process's; the others have none in theirs
    say: Callable[[str], object]
    marks: tuple[int, ...] = ()  # tokens that are stop strings
    run: str = field(default_factory=lambda: uuid.uuid4().hex[:8])  # tells this process's labels from another's
    engine: VLLMEngine | None = None
    given: list[Address] = field(default_factory=list[Address])  # who has the weights; the main process's
    beside: ClassVar[bool] = True

    @property
    def world(self) -> World:
        return self.trainee.world

    @contextmanager
    def at(self, version: int, writer: str = BY_POLICY) -> Iterator[Engine]:
        if writer != BY_POLICY:
            raise RunError(f"a server has the policy's weights, and not those of {writer}; set rollout.engine to local")
        if self.engine is None or self.engine.version != version:
            self.engine = None  # what follows may fail half way
            self.engine = self._with_weights(version)
        yield self.engine

    def moved(self) -> None:
        self.engine = None

    def told(self) -> dict[str, float]:
        """The share of prompt tokens, of the last experience, that the servers did not have to compute."""
        asked, known = self.servers.looked_up()
        return {"prefix_cache_hits": known / asked} if asked > 0 else {}

    def close(self) -> None:
        if any(server.process is not None for server in self.servers.up):
            self.servers.close()
            with suppress(OSError):
                remove(self.folder / "weights")
        self.engine = None

    def _with_weights(self, version: int) -> VLLMEngine:
        """An engine whose servers have the policy's weights of now."""
        state = whole_weights(self.trainee)

        def push() -> tuple[list[Address], str]:
            label = f"{self.run}:{version}"  # the main process's; the other ranks have drawn other words
            self.given = self._give(state, label)
            return [replace(one, client=replace(one.client, ended=always_up)) for one in self.given], label

        sent, label = self._on_main(push)
        found = self.given if self.world.main else sent  # a process cannot be sent: its own knows when it has ended
        first = self.world.rank % len(found)  # each rank asks another server first
        fleet = Fleet([*found[first:], *found[:first]], label, self.say)
        engine = VLLMEngine(fleet, functools.partial(text_of, self.texts), self.max_rows, version, self.marks)
        for address in found:
            self._prove(replace(engine, fleet=Fleet([address], label, self.say)))
        return engine

    def _give(self, state: dict[str, torch.Tensor] | None, label: str) -> list[Address]:
        """Writes the weights and has the servers read them; the main process's part."""
        weights = (self.folder / "weights").resolve()
        model = self.world.unwrap(self.trainee.module).model
        save_served(model, self.tokenizer, weights, state, untied=self.world.device.type == "cpu")
        return self.servers.give(weights, label)

    def _prove(self, engine: VLLMEngine) -> None:
        """RunError where the policy gives other log-probabilities to what the server has just written."""

        def write() -> Written:
            length = min(PROBE, self.sampling.max_completion_length)
            sampling = replace(self.sampling, max_completion_length=length)
            return engine.write([Request(self.probe, (0,))], sampling)[0][0]

        written: Written = self._on_main(write)
        tokens = Tokens(self.probe, written.tokens, np.ones(len(written.tokens), dtype=bool))
        groups = [Group((tokens,), {"group": 0.0, "reward": 0.0, "earned": 0.0, "auxiliary": 0.0}, 0)]
        (member,) = self.batching.needs.members
        was_training = self.trainee.module.training
        self.trainee.module.eval()
        logps = ModelRole(self.trainee.module).stored(self.batching, {member: ("logps",)}, groups)[member, "logps"]
        self.trainee.module.train(was_training)
        gap = (logps[0] - torch.from_numpy(written.logps)).abs().mean().item()
        if not gap <= (limit := GAP.get(self.world.device.type, GAP["cuda"])):
            self.world.fail(
                f"vLLM at {engine.fleet.all[0].client.url}: does not serve the policy's weights: its log-probabilities "
                f"differ from the policy's by {gap:.2g} on average (limit {limit:g}); another model, weights "
                f"that did not arrive, or a precision too small (rollout.vllm_arguments: [--dtype, float32])"
            )

    def _on_main(self, do: Callable[[], Any]) -> Any:
        """What the main process's call gives, on every rank; where it fails, all stop and the main process tells it."""
        made, failure = None, None
        if self.world.main:
            try:
                made = do()
            except ServerError as error:
                failure = fallen(error)
            except AlignError as error:
                failure = error
            except OSError as error:
                failure = RunError(f"{self.folder}: {error}; make room, then go on with --resume")
        made, trouble = self.world.everyone((made, failure and (str(failure), failure.exit_code)))[0]
        if failure is not None:
            raise failure
        if trouble is not None:
            raise Elsewhere(*trouble)
        return made

"""A server as the engine: it gets the policy's weights before anything is written with them.

All ranks take part in gathering the weights; the main process writes them to `server/weights` in the run folder, starts
the server or has it read them, and proves them: what the server writes for one prompt is scored by the policy. Every
rank then sends its own requests.
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
from align.rollout.vllm.client import Client, ServerError, always_up
from align.rollout.vllm.connect import check_vocabulary
from align.rollout.vllm.engine import AGAIN, VLLMEngine, prefix_cache
from align.rollout.vllm.server import Server
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
    """One server for all ranks. `server` is None, on the main process, until the first weights are there."""

    trainee: Trainee
    batching: Batching
    tokenizer: Any
    texts: Texts  # what makes text of completions
    sampling: Sampling
    probe: np.ndarray  # a prompt
    folder: Path
    max_rows: int  # that this rank asks for side by side
    start: Callable[[Path], Server]  # one that serves the model in this folder
    server: Server | None = None  # joined, not started
    marks: tuple[int, ...] = ()  # tokens that are stop strings
    run: str = field(default_factory=lambda: uuid.uuid4().hex[:8])  # tells this process's labels from another's
    engine: VLLMEngine | None = None
    looked_up: tuple[float, float] | None = None  # tokens of prompts, and of them those that it still knew
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
        """The share of prompt tokens, of the last experience, that the server did not have to compute."""
        found = prefix_cache(self.server.client) if self.server is not None else None
        if found is None or self.looked_up is None:
            return {}
        asked, known = (now - before for now, before in zip(found, self.looked_up, strict=True))
        self.looked_up = found
        return {"prefix_cache_hits": known / asked} if asked > 0 else {}

    def close(self) -> None:
        if self.server is not None and self.server.process is not None:
            self.server.close()
            with suppress(OSError):
                remove(self.folder / "weights")
        self.server = self.engine = None

    def _with_weights(self, version: int) -> VLLMEngine:
        """An engine whose server has the policy's weights of now."""
        state = whole_weights(self.trainee)

        def push() -> tuple[Client, str, str]:
            label = f"{self.run}:{version}"  # the main process's; the other ranks have drawn other words
            server = self._serve(state, label)
            return replace(server.client, ended=always_up), server.model, label  # a process cannot be sent

        client, model, label = self._on_main(push)
        if self.server is not None:  # knows when its own process has ended
            client = self.server.client
        decode = functools.partial(text_of, self.texts)
        engine = VLLMEngine(client, model, decode, self.max_rows, label, version, self.marks)
        self._prove(engine)
        return engine

    def _serve(self, state: dict[str, torch.Tensor] | None, label: str) -> Server:
        """Writes the weights and has the server read them; the main process's part."""
        weights = (self.folder / "weights").resolve()
        model = self.world.unwrap(self.trainee.module).model
        save_served(model, self.tokenizer, weights, state, untied=self.world.device.type == "cpu")
        if self.server is None:
            self.server = self.start(weights)
            check_vocabulary(self.server, self.tokenizer)
            self.server.label(label)
        else:
            self.server.load_weights(weights, label)
        if self.looked_up is None:  # a server that is joined has counted what others asked for
            self.looked_up = prefix_cache(self.server.client)
        return self.server

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
                f"vLLM at {engine.client.url}: does not serve the policy's weights: its log-probabilities differ from "
                f"the policy's by {gap:.2g} on average (limit {limit:g}); another model, weights that did not arrive, "
                f"or a precision too small (rollout.vllm_arguments: [--dtype, float32])"
            )

    def _on_main(self, do: Callable[[], Any]) -> Any:
        """What the main process's call gives, on every rank; where it fails, all stop and the main process tells it."""
        made, failure = None, None
        if self.world.main:
            try:
                made = do()
            except ServerError as error:
                failure = RunError(error.with_cure(AGAIN))
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

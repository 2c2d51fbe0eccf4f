"""A model folder served by a vLLM server that is started for it, and asked as in training.

Answers are written by the server. What is chosen by log-probability is scored in this process, by the training scorer.
"""

from __future__ import annotations

import functools
import shlex
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from align.errors import UserError
from align.rollout.policy_engine import text_of
from align.rollout.settings import RolloutSection
from align.rollout.vllm.engine import VLLMEngine, mode_of
from align.rollout.vllm.fleet import Address, Fleet, weight_label
from align.rollout.vllm.server import Server, start
from align.rollout.vllm.weights import save_served
from align.system.lines import warn
from align_eval.generation.local import Local
from align_eval.generation.settings import Settings
from align_eval.generation.trained import Where


class Served(Local):
    """Started when the first answer is wanted."""

    def __init__(self, name: str, found: Where, settings: Settings):
        super().__init__(name, found, settings)
        words = shlex.split(settings.vllm_command)
        if not words or shutil.which(words[0]) is None:
            raise UserError(
                f"engine=vllm: {words[0] if words else 'nothing'}: no such program; install vLLM, best in an "
                "environment of its own (vllm_command=other-environment/bin/vllm serve), or set engine=local"
            )

    @functools.cached_property
    def folder(self) -> Path:
        return Path(tempfile.mkdtemp(prefix="align-eval-vllm-"))

    def identity(self) -> dict[str, Any]:
        return {**super().identity(), "kind": "vllm"}

    def close(self) -> None:
        if server := self.__dict__.pop("server", None):
            server.close()
        if folder := self.__dict__.pop("folder", None):
            shutil.rmtree(folder, ignore_errors=True)
        super().close()

    @functools.cached_property
    def server(self) -> Server:
        model, weights = self.alone.model, self.folder / "weights"
        save_served(model, self.reading.tokenizer, weights, None)
        rollout = RolloutSection(
            engine="vllm", vllm_arguments=self.settings.vllm_arguments, vllm_request_timeout=self.settings.timeout,
        )  # fmt: skip
        dtype = str(self.alone.scorer.computes_in).removeprefix("torch.")
        arguments = (
            "--dtype", dtype, "--max-model-len", str(self.context), "--logprobs-mode",
            mode_of(self.settings.temperature), "--disable-uvicorn-access-log",
        )  # fmt: skip
        return start(rollout, self.settings.vllm_command, weights, arguments, self.folder / "vllm.log").up()

    @contextmanager
    def _engine(self) -> Iterator[Any]:
        server, decode = self.server, functools.partial(text_of, self._readable)
        label = weight_label(server.client)
        fleet = Fleet([Address(server.client, server.model)], label, warn)
        yield VLLMEngine(fleet, decode, self.settings.max_rows, 0)

"""A real vLLM server on the CPU, started once, out of its own environment (ALIGN_VLLM: its folder)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from with_vllm.wider import make_wider

from align.data.text.template import choose_template
from align.rollout.local.engine import LocalEngine
from align.rollout.policy_engine import text_of
from align.rollout.settings import RolloutSection
from align.rollout.vllm.engine import VLLMEngine
from align.rollout.vllm.fleet import Address, Fleet
from align.rollout.vllm.server import Server, start
from align.rollout.vllm.weights import save_served

VLLM = Path(os.environ["ALIGN_VLLM"]).absolute()
os.environ["VLLM_CPU_KVCACHE_SPACE"] = "1"  # GB
os.environ["TORCHDYNAMO_DISABLE"] = "1"  # or the first log-probabilities wait for a compiler
COMMAND = f"{VLLM}/bin/python -m vllm.entrypoints.openai.api_server"  # the CPU package's `vllm` does not know itself
EAGER = "--enforce-eager"
TEMPERATURE = 0.7


@dataclass
class Served:
    """A policy, and a server that can be given its weights. The server's log-probabilities are `processed_logprobs`."""

    model: Any
    tokenizer: Any
    server: Server
    folder: Path
    num_pushed: int = field(default=0)

    def decode(self, ids: Any) -> str:
        return text_of(self.tokenizer, ids)

    def push(self) -> VLLMEngine:
        """Gives it the weights of now, as a run does."""
        self.num_pushed += 1
        label = f"test:{self.num_pushed}"
        save_served(self.model, self.tokenizer, self.folder, None, untied=True)
        self.server.load_weights(self.folder, label)
        fleet = Fleet([Address(self.server.client, self.server.model)], label, print)
        return VLLMEngine(fleet, self.decode, 16, self.num_pushed)

    def local(self) -> LocalEngine:
        return LocalEngine(self.model, self.tokenizer.pad_token_id, self.decode, 64, self.num_pushed)


@pytest.fixture(scope="session")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped model, its head tied to its embeddings."""
    return make_wider(tmp_path_factory.mktemp("model") / "wide260k")


@pytest.fixture(scope="session")
def server(wide: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Serves that model; under two names, so that a run may join it too."""
    folder = tmp_path_factory.mktemp("served")
    tokenizer = AutoTokenizer.from_pretrained(wide)
    save_served(loaded(wide), tokenizer, folder / "model", None, untied=True)
    (folder / "chat.jinja").write_text(choose_template(tokenizer))  # as dialogues are written out in this process
    settings = RolloutSection(
        engine="vllm",
        vllm_arguments=[
            EAGER, "--block-size", "32", "--chat-template", str(folder / "chat.jinja"),
            "--served-model-name", "policy", str(wide),
        ],
    )
    arguments = ("--dtype", "float32", "--logprobs-mode", "processed_logprobs")
    server = start(settings, COMMAND, folder / "model", arguments, folder / "vllm.log").up()
    yield server
    server.close()


@pytest.fixture
def served(wide: Path, server: Server, tmp_path: Path) -> Served:
    tokenizer = AutoTokenizer.from_pretrained(wide)
    tokenizer.pad_token_id = tokenizer.eos_token_id
    return Served(loaded(wide), tokenizer, server, tmp_path / "weights")


def loaded(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()

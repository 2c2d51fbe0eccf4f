"""A vLLM server that runs already: whether it serves what a run needs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from align.errors import UserError
from align.rollout.settings import RolloutSection
from align.rollout.vllm.client import Client, Refused, ServerError
from align.rollout.vllm.server import Server

SHAPE = (
    "model_type", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
    "vocab_size",
)  # fmt: skip


@runtime_checkable
class Vocabulary(Protocol):
    """The part of a tokenizer by which vocabularies are compared."""

    def __len__(self) -> int: ...

    def decode(self, ids: Any, **options: Any) -> str: ...


@dataclass(frozen=True)
class Expected:
    """What a server must serve."""

    names: tuple[str, ...]  # of the recipe's model: as it is spelt, and its folder
    shape: Mapping[str, Any]  # `shape_of` its config
    length: int  # tokens of the longest prompt with its completion
    mode: str  # its --logprobs-mode


def join(settings: RolloutSection, base_url: str, expected: Expected) -> Server:
    """Looks at a server that runs already. UserError where it cannot be reached or serves something else."""
    url = base_url.rstrip("/").removesuffix("/v1")
    client = Client(url, settings.vllm_request_timeout, settings.vllm_retries)
    place = f"rollout.vllm_server_base_url: vLLM at {url}"
    try:
        served = client.get("/v1/models")["data"]
        found = next((card for card in served if _is_expected(card, expected)), None)
        if found is None:
            there = ", ".join(f"{c.get('id')} ({c.get('root')})" for c in served) or "nothing"
            raise UserError(
                f"{place}: serves {there}, expected {expected.names[0]}; serve the recipe's model, or name it so with "
                "--served-model-name if it is that one"
            )
        if (length := found.get("max_model_len")) and length < expected.length:
            raise UserError(
                f"{place}: takes {length} tokens (max_model_len), expected {expected.length}: the longest prompt and "
                "rollout.max_completion_length"
            )
        _check_settings(client, place, expected, str(found.get("root")))
    except (KeyError, TypeError, AttributeError):
        raise UserError(f"{place}: its /v1/models is not that of an OpenAI server") from None
    except ServerError as error:
        raise UserError(
            f"rollout.vllm_server_base_url: {error}; start it with VLLM_SERVER_DEV_MODE=1 vllm serve "
            f"{expected.names[-1]} --logprobs-mode {expected.mode}, or correct the URL"
        ) from error
    return Server(client, str(found["id"]))


def _is_expected(card: Mapping[str, Any], expected: Expected) -> bool:
    """By its name or folder, or by the shape of the weights where its folder can be read from here."""
    root = str(card.get("root"))
    if card.get("id") in expected.names or root in expected.names:
        return True
    there = shape_of(_config(root))
    return bool(there) and all(expected.shape.get(key, value) == value for key, value in there.items())


def _config(root: str) -> dict[str, Any]:
    """Of a served folder; empty where it cannot be read from here."""
    try:
        return json.loads(Path(root, "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def shape_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """What of a config.json decides which weights fit."""
    text = config.get("text_config") or config
    return {key: text[key] for key in SHAPE if text.get(key) is not None}


def _check_settings(client: Client, place: str, expected: Expected, root: str) -> None:
    """Its development interface must be there, and its log-probabilities must be those that are wanted."""
    try:
        client.get("/weight_info")
        info = client.get("/server_info?config_format=json")
    except Refused as error:
        raise UserError(
            f"{place}: lacks the interface by which weights are loaded ({error}); start it with "
            "VLLM_SERVER_DEV_MODE=1 (vLLM 0.32 or newer), on a port that nobody else can reach"
        ) from None
    told = info.get("vllm_config") or {}
    if (told.get("device_config") or {}).get("device") == "cpu" and _config(root).get("tie_word_embeddings"):
        raise UserError(
            f"{place}: on a CPU vLLM does not renew a head that is tied to the embeddings; serve a folder whose "
            "config.json says tie_word_embeddings: false (as server/weights of a run does), or let the run start it"
        )
    mode = (told.get("model_config") or {}).get("logprobs_mode")
    if mode not in (None, expected.mode):
        raise UserError(
            f"{place}: gives {mode}; at this rollout.temperature log-probabilities are right under "
            f"--logprobs-mode {expected.mode}"
        )


def check_vocabulary(server: Server, tokenizer: Vocabulary) -> None:
    """UserError where the server's tokenizer makes other text of some token."""

    def differs(count: int) -> bool:
        ids = list(range(count))
        answer = server.client.post("/detokenize", {"model": server.model, "tokens": ids})
        return answer["prompt"] != tokenizer.decode(ids, skip_special_tokens=False)

    place = f"vLLM at {server.client.url}"
    try:
        if not differs(len(tokenizer)):
            return
        low, high = 0, len(tokenizer)  # equal up to `low` tokens, not up to `high`
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if differs(middle) else (middle, high)
    except Refused as error:
        raise UserError(f"{place}: its vocabulary cannot be read: {error}; serve it with its tokenizer") from None
    raise UserError(
        f"{place}: its vocabulary is not the policy's: token {high - 1} is another than "
        f"{tokenizer.decode([high - 1], skip_special_tokens=False)!r}; serve the recipe's model with its own tokenizer"
    )

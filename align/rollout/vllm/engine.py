"""Writing with a vLLM server, over its OpenAI interface: token ids go in, token ids and log-probabilities come out.

Each completion is a request of its own with a seed of its own, so that what the server does side by side changes
nothing but rounding. Sampling settings that the server has of its own (a model's generation_config.json) are overridden
one by one, its end-of-sequence rule too: a completion ends where the recipe says.

Log-probabilities are under the temperature, before top-k, top-p and min-p. vLLM has two ways to give them:
`raw_logprobs`, of the logits as they are, which is right at temperature 1, and `processed_logprobs`, after all of
these, which is right where nothing is left out. `mode_of` says which a recipe wants; at another temperature with tokens
left out neither is, and the recipe is refused.

The servers' weights carry a label. It is read before and after a batch: what was written while they changed is asked
again of another server, and stops the run where there is none.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from align.errors import RunError
from align.rollout.draws import seed_of
from align.rollout.engine import Request, Sampling, StopReason, Written, room_of
from align.rollout.stop_strings import Decode, StopStrings, stop_strings
from align.rollout.vllm.client import AGAIN, Client, Refused, ServerError
from align.rollout.vllm.fleet import Address, Fleet
from align.rollout.vllm.placed import fallen

COUNTER = r"(?m)^vllm:prefix_cache_{}(?:_total)?(?:\{{[^}}]*\}})? ([0-9.e+]+)$"  # of Prometheus, one for each engine


def mode_of(temperature: float) -> str:
    """The server's `--logprobs-mode` under which its log-probabilities are those of `Written`."""
    return "raw_logprobs" if temperature in (0, 1) else "processed_logprobs"


@dataclass(frozen=True)
class VLLMEngine:
    """Completions by servers that have the weights of `version`."""

    fleet: Fleet
    decode: Decode
    max_rows: int  # completions that are asked for side by side, of each server
    version: int
    marks: tuple[int, ...] = ()  # tokens that are stop strings: the server is to stop there, and its text has none

    def write(self, requests: Sequence[Request], sampling: Sampling) -> list[list[Written]]:
        asked = [(request, seed) for request in requests for seed in request.seeds]
        if not asked:
            return [[] for _ in requests]
        try:
            self.fleet.check_labels("before")
            written = iter(self._all(asked, sampling))
        except ServerError as error:
            raise fallen(error) from error
        return [[next(written) for _ in request.seeds] for request in requests]

    def _all(self, asked: Sequence[tuple[Request, int]], sampling: Sampling) -> list[Written]:
        """Each once, by a server that had the weights before and after."""
        found = dict[int, Written]()
        while missing := [number for number in range(len(asked)) if number not in found]:
            made = self._some([asked[number] for number in missing], sampling)
            self.fleet.check_labels("after")
            of_missing = zip(missing, made, strict=True)
            found |= {number: written for number, (by, written) in of_missing if self.fleet.has(by)}
        return [found[number] for number in range(len(asked))]

    def _some(self, asked: Sequence[tuple[Request, int]], sampling: Sampling) -> list[tuple[Address, Written]]:
        pool = ThreadPoolExecutor(min(self.max_rows * len(self.fleet.all), len(asked)))
        try:
            return list(pool.map(lambda one: self.fleet.ask(lambda by: self._one(by, one[0], one[1], sampling)), asked))
        finally:
            pool.shutdown(cancel_futures=True)

    def _one(self, by: Address, request: Request, seed: int, sampling: Sampling) -> Written:
        room, last = room_of(request, sampling)
        prompt = [*request.prompt.tolist(), *request.prefix.tolist()]
        body = completion_body(by.model, prompt, room, sampling)
        body["stop_token_ids"] += self.marks
        body["seed"] = seed_of(seed, len(request.prefix)) >> 1  # vLLM's seeds are signed
        tokens, logps, end = _choice(by.client, body)
        strings = stop_strings(self.decode, request, sampling)
        count, stop = _end(tokens, sampling.stop_token_ids, strings, end == "string")
        if not stop and len(tokens) < room:
            full = f"its context is full, the prompt has {len(prompt)}; serve it with a larger --max-model-len, and"
            why = full if end == "length" else f"it was ended by the server ({end});"
            raise RunError(f"vLLM at {by.client.url}: a completion has {len(tokens)} of {room} tokens: {why} {AGAIN}")
        return Written(
            np.array(tokens[:count], dtype=np.int32), np.array(logps[:count], dtype=np.float32), stop or last,
            self.version,
        )  # fmt: skip


def prefix_cache(client: Client) -> tuple[float, float] | None:
    """Tokens of prompts that the server was asked to look up so far, and those whose keys it still had.

    None where it does not count them, or does not say: nothing that is learned depends on it.
    """
    try:
        told = client.text("/metrics")
    except ServerError:
        return None
    found = [sum(map(float, re.findall(COUNTER.format(name), told))) for name in ("queries", "hits")]
    return (found[0], found[1]) if "vllm:prefix_cache_queries" in told else None


def completion_body(model: str, prompt: Sequence[int], max_tokens: int, sampling: Sampling) -> dict[str, Any]:
    """A request for one completion; its seed is left to the caller."""
    greedy = sampling.temperature == 0
    return {
        "model": model, "prompt": list(prompt), "max_tokens": max_tokens, "n": 1, "logprobs": 0,
        "return_token_ids": True, "temperature": sampling.temperature,
        "top_k": 0 if greedy else sampling.top_k, "top_p": 1.0 if greedy else sampling.top_p,
        "min_p": 0.0 if greedy else sampling.min_p,
        "repetition_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0,
        "ignore_eos": True, "stop_token_ids": list(sampling.stop_token_ids), "min_tokens": 0,
        "stop": list(sampling.stop_strings), "include_stop_str_in_output": True, "skip_special_tokens": True,
    }  # fmt: skip


def _end(
    tokens: Sequence[int], stop_token_ids: Sequence[int], strings: StopStrings, told: bool
) -> tuple[int, StopReason | None]:
    """How many tokens belong to the completion, by the rules of the local engine, and what ended it.

    `told`: the server found a stop string. Its text may differ from ours in special tokens; then it is believed. It
    looks in the new tokens alone, so one that began before them is found here, after more has been written.
    """
    inside = strings.only(strings.found(tokens))
    for count, token in enumerate(tokens, 1):
        if token in stop_token_ids:
            return count, StopReason.EOS
        if inside.found(tokens[:count]):
            return count, StopReason.STRING
    return len(tokens), StopReason.STRING if told else None


def _choice(client: Client, body: dict[str, Any]) -> tuple[list[int], list[float], str]:
    """Tokens, log-probabilities and how the server says that it ended: `string`, or its own finish_reason."""
    answer = client.post("/v1/completions", body)
    try:
        (choice,) = answer["choices"]
        tokens, logps = list(choice["token_ids"]), [float(p) for p in choice["logprobs"]["token_logprobs"]]
        end = "string" if isinstance(choice.get("stop_reason"), str) else str(choice["finish_reason"])
    except (KeyError, TypeError, ValueError) as error:
        raise Refused(
            f"vLLM at {client.url}: a completion came without token ids or log-probabilities "
            f"({type(error).__name__}: {error}); vLLM 0.32 gives them"
        ) from None
    if not tokens or len(tokens) != len(logps) or not all(map(math.isfinite, logps)):
        raise Refused(f"vLLM at {client.url}: a completion of {len(tokens)} tokens has log-probabilities {logps[:8]}")
    return tokens, logps, end

"""A stop string may begin in what a completion goes on from, and must end in what is new."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import pytest
from rollout.fake_vllm import completion, serving
from rollout.test_local_engine import PAD, model_of, prompts, sampling

from align.rollout.engine import Request, StopReason
from align.rollout.local.engine import LocalEngine
from align.rollout.local.uncached import PlainEngine
from align.rollout.stop_strings import stop_strings
from align.rollout.vllm.client import Client
from align.rollout.vllm.engine import VLLMEngine
from align.rollout.vllm.fleet import Address, Fleet


def words(ids: Sequence[int]) -> str:
    return " ".join(map(str, ids))


@pytest.mark.parametrize("kind", [LocalEngine, PlainEngine])
def test_the_border_of_a_window_hides_none(kind: type[LocalEngine]):
    (prompt,), free = prompts(5), sampling(stop_token_ids=())
    engine = kind(model_of("llama"), PAD, words, 8)
    ((whole,),) = engine.write([Request(prompt, (8,))], free)
    tokens = whole.tokens.tolist()
    stops = dataclasses.replace(free, stop_strings=(words(tokens[3:6]), words(tokens[1:3])))
    first = whole.tokens[:5]
    ((rest, other),) = engine.write([Request(prompt, (8, 9), prefix=first)], stops)
    assert ([*first, *rest.tokens], rest.stop) == (tokens[:6], StopReason.STRING), "as without a border"
    assert len(other.tokens) > 1, "what stands in the prefix alone ends nothing"
    ((turn,),) = engine.write([Request(prompt, (8,), prefix=first, earlier=5)], stops)
    assert ([*first, *turn.tokens], turn.stop) == (tokens, StopReason.LENGTH), "a turn of its own"


def test_a_server_that_does_not_see_the_border_is_corrected():
    prefix, stops = np.array([4, 3], dtype=np.int32), sampling(max_completion_length=6, stop_strings=("3 5", "4 3"))
    with serving() as fake:
        fake.answers["/v1/completions"] = completion([5, 6, 3, 7])
        fleet = Fleet([Address(Client(fake.url, timeout=5.0, retries=1), "policy")], "mine:3", print)
        engine = VLLMEngine(fleet, words, 4, version=3)
        prompt = np.array([7, 8], dtype=np.int32)
        ((goes_on,),) = engine.write([Request(prompt, (0,), prefix=prefix)], stops)
        ((answers,),) = engine.write([Request(prompt, (0,), prefix=prefix, earlier=2)], stops)
    assert (goes_on.tokens.tolist(), goes_on.stop) == ([5], StopReason.STRING)
    assert (answers.tokens.tolist(), answers.stop) == ([5, 6, 3, 7], StopReason.LENGTH)


def test_a_character_of_which_the_prefix_has_some_bytes_may_end_a_completion():
    def decode(ids: Sequence[int]) -> str:
        return bytes(ids).decode(errors="replace")

    smile = list("a☺".encode())
    request = Request(np.array([3]), (0,), prefix=np.array(smile[:3]))
    search = stop_strings(decode, request, sampling(stop_strings=("☺", "a")))
    assert search.found([]) == ()
    assert search.found(smile[3:]) == ("☺",)

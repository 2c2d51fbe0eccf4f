"""The client's side of a vLLM engine, against servers that answer what a test lays down (the real one: with_vllm)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rollout.fake_vllm import CARD, DROPPED, Fake, completion, serving, settings

from align.errors import RunError, UserError
from align.rollout.engine import Request, Sampling, StopReason
from align.rollout.vllm.client import Client, ServerError
from align.rollout.vllm.connect import Expected, check_vocabulary, join
from align.rollout.vllm.engine import VLLMEngine, mode_of
from align.rollout.vllm.fleet import Address, Fleet
from align.rollout.vllm.server import free_port

ENDS = {"stop_strings": ("33",)}
EXPECTED = Expected(("policy",), {"hidden_size": 64}, length=100, mode="raw_logprobs")


def engine(fake: Fake, **more: Any) -> VLLMEngine:
    client = Client(fake.url, **{"timeout": 5.0, "retries": 1, **more})
    fleet = Fleet([Address(client, "policy")], "mine:3", print)
    return VLLMEngine(fleet, lambda ids: " ".join(map(str, ids)), 4, version=3)


def sampling(**given: Any) -> Sampling:
    return Sampling(**{"max_completion_length": 6, "stop_token_ids": (1,), **given})


def request(*seeds: int, **more: Any) -> Request:
    return Request(np.array([7, 8], dtype=np.int32), seeds, **more)


# ---- writing --------------------------------------------------------------------------------------------------------


def test_answers_come_in_the_order_of_requests_and_seeds():
    with serving() as fake:
        fake.answers["/v1/completions"] = lambda body: completion([body["prompt"][0], 2, 3, 4, 5, 1])
        requests = [Request(np.array([40 + i], dtype=np.int32), (1, 2)) for i in range(5)]
        found = engine(fake).write(requests, sampling())
    assert [[w.tokens[0] for w in written] for written in found] == [[40 + i] * 2 for i in range(5)]
    assert {(w.stop, w.version) for written in found for w in written} == {(StopReason.EOS, 3)}


def test_a_seed_says_what_is_drawn_also_where_a_completion_goes_on():
    with serving() as fake:
        writer = engine(fake)
        writer.write([request(2**64 - 1, 5)], sampling())
        writer.write([request(5, prefix=np.array([9, 9], dtype=np.int32), window=3)], sampling())
        asked = [body for path, body in fake.asked if path == "/v1/completions"]
    seeds = [body["seed"] for body in asked]
    assert len(set(seeds)) == 3
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert (asked[2]["prompt"], asked[2]["max_tokens"]) == ([7, 8, 9, 9], 3)


@pytest.mark.parametrize(
    ("tokens", "ends", "given", "expected"),
    [
        ([5, 1], {"finish_reason": "stop", "stop_reason": 1}, {}, ([5, 1], StopReason.EOS)),
        ([5] * 6, {}, {}, ([5] * 6, StopReason.LENGTH)),
        ([5, 33], {"finish_reason": "stop", "stop_reason": "33"}, ENDS, ([5, 33], StopReason.STRING)),
        ([5, 33, 6], {"finish_reason": "stop", "stop_reason": "33"}, ENDS, ([5, 33], StopReason.STRING)),
        ([5, 34], {"finish_reason": "stop", "stop_reason": "<33>"}, ENDS, ([5, 34], StopReason.STRING)),
    ],
)  # fmt: skip
def test_completions_end_as_those_of_the_local_engine(tokens: list[int], ends: Any, given: Any, expected: Any):
    with serving() as fake:
        fake.answers["/v1/completions"] = completion(tokens, **ends)
        ((written,),) = engine(fake).write([request(0)], sampling(**given))
    assert (written.tokens.tolist(), written.stop) == expected
    assert len(written.logps) == len(written.tokens)


def test_a_completion_that_ends_by_nothing_known_stops_the_run():
    with serving() as fake:
        fake.answers["/v1/completions"] = completion([5, 5], finish_reason="abort")
        with pytest.raises(RunError, match=r"has 2 of 6 tokens: it was ended by the server \(abort\)"):
            engine(fake).write([request(0)], sampling())


def test_weights_that_change_during_a_batch_stop_the_run():
    labels = iter(["mine:3", "other:4"])
    with serving() as fake:
        fake.answers["/weight_info"] = lambda body: {"weight_version": next(labels)}
        with pytest.raises(RunError, match=r"after a batch its weights are 'other:4', expected 'mine:3'"):
            engine(fake).write([request(0)], sampling())


def test_answers_without_token_ids_are_refused():
    with serving() as fake:
        fake.answers["/v1/completions"] = {"choices": [{"text": "Once", "finish_reason": "length"}]}
        with pytest.raises(RunError, match="without token ids or log-probabilities"):
            engine(fake).write([request(0)], sampling())


def test_an_error_of_the_server_that_passes_is_asked_again():
    statuses = iter([503, 500])
    with serving() as fake:
        fake.answers["/v1/completions"] = lambda body: next(statuses, completion([5] * 6))
        assert engine(fake, retries=2).write([request(0)], sampling())[0][0].stop == StopReason.LENGTH


def test_one_that_stays_is_told_with_the_cure():
    with serving() as fake:
        fake.answers["/v1/completions"] = 500
        with pytest.raises(RunError, match=r"answers 500: status 500 \(tried 2 times\).*--resume"):
            engine(fake).write([request(0)], sampling())


def test_a_server_that_dies_in_the_middle_of_a_batch_stops_the_run():
    with serving() as fake:
        fake.answers["/v1/completions"] = lambda body: completion([5] * 6) if len(fake.asked) < 6 else DROPPED
        with pytest.raises(RunError, match=r"closed connection without response \(tried 2 times\).*--resume"):
            engine(fake).write([request(*range(12))], sampling())


def test_a_cache_that_others_use_is_waited_for(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("align.rollout.vllm.server.PAUSES", (0.0, 0.0))
    found = iter([False, True])
    with serving() as fake:
        server = join(settings(), fake.url, EXPECTED)
        fake.answers |= {"/reset_prefix_cache": lambda body: {"success": next(found, False)}}
        fake.answers |= {"/update_weight_version": {}}
        server.label("mine:4")
        assert fake.asked[-1] == ("/update_weight_version", {"new_version": "mine:4"})
        with pytest.raises(ServerError, match="prefix cache is in use by others"):
            server.label("mine:5")


def test_a_refusal_is_not_asked_again():
    with serving() as fake:
        fake.answers["/v1/completions"] = 400
        with pytest.raises(RunError, match="answers 400"):
            engine(fake).write([request(0)], sampling())
        assert sum(path == "/v1/completions" for path, _ in fake.asked) == 1


def test_an_answer_that_does_not_come_is_given_up():
    with serving(delay=0.5) as fake, pytest.raises(RunError, match=r"no answer to /weight_info within 0.1 seconds"):
        engine(fake, timeout=0.1).write([request(0)], sampling())


def test_nothing_asked_is_nothing_written():
    assert engine(Fake(url="http://127.0.0.1:1")).write([], sampling()) == []


def test_log_probabilities_before_top_k_at_temperature_1_and_under_the_temperature_elsewhere():
    assert [mode_of(t) for t in (0.0, 1.0, 0.7)] == ["raw_logprobs", "raw_logprobs", "processed_logprobs"]


# ---- joining --------------------------------------------------------------------------------------------------------


def test_a_server_that_fits_is_joined():
    with serving() as fake:
        server = join(settings(), f"{fake.url}/v1/", EXPECTED)
    assert (server.model, server.client.url, server.process) == ("policy", fake.url, None)


@pytest.mark.parametrize(
    ("path", "answer", "told"),
    [
        ("/v1/models", {"data": [{**CARD, "id": "other"}]}, r"serves other \(/nowhere\), expected policy"),
        ("/v1/models", {"data": [{**CARD, "max_model_len": 64}]}, r"takes 64 tokens \(max_model_len\), expected 100"),
        ("/v1/models", {"models": []}, "is not that of an OpenAI server"),
        ("/weight_info", 404, "VLLM_SERVER_DEV_MODE=1"),
        (
            "/server_info",
            {"vllm_config": {"model_config": {"logprobs_mode": "processed_logprobs"}}},
            "gives processed_logprobs; .* --logprobs-mode raw_logprobs",
        ),
    ],
)
def test_one_that_does_not_fit_is_refused(path: str, answer: Any, told: str):
    with serving() as fake:
        fake.answers[path] = answer
        with pytest.raises(UserError, match=told):
            join(settings(), fake.url, EXPECTED)


def test_one_that_is_not_there_is_told_with_the_command_that_starts_it():
    url = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(UserError, match=rf"vLLM at {url}: .*refused.*VLLM_SERVER_DEV_MODE=1 vllm serve policy"):
        join(settings(), url, EXPECTED)


def test_a_model_is_known_by_the_shape_of_its_weights(tmp_path: Path):
    with serving() as fake:
        fake.answers["/v1/models"] = {"data": [{**CARD, "id": "copy", "root": str(tmp_path)}]}
        (tmp_path / "config.json").write_text('{"hidden_size": 64}')
        assert join(settings(), fake.url, EXPECTED).model == "copy"
        fake.answers["/server_info"] = {"vllm_config": {"device_config": {"device": "cpu"}}}
        (tmp_path / "config.json").write_text('{"hidden_size": 64, "tie_word_embeddings": true}')
        with pytest.raises(UserError, match="does not renew a head that is tied"):
            join(settings(), fake.url, EXPECTED)
        (tmp_path / "config.json").write_text('{"hidden_size": 128}')
        with pytest.raises(UserError, match="serves copy"):
            join(settings(), fake.url, EXPECTED)


class Letters:
    """A tokenizer of so many letters."""

    def __init__(self, letters: str):
        self.letters = letters

    def __len__(self) -> int:
        return len(self.letters)

    def decode(self, ids: Any, **options: Any) -> str:
        return "".join(self.letters[i] for i in ids)


def test_another_vocabulary_is_found_at_its_first_other_token():
    with serving() as fake:
        server = join(settings(), fake.url, EXPECTED)
        fake.answers["/detokenize"] = lambda body: {"prompt": Letters("abcdeXgh").decode(body["tokens"])}
        check_vocabulary(server, Letters("abcde"))
        with pytest.raises(UserError, match="token 5 is another than 'f'"):
            check_vocabulary(server, Letters("abcdefgh"))
        fake.answers["/detokenize"] = 404
        with pytest.raises(UserError, match="its vocabulary cannot be read"):
            check_vocabulary(server, Letters("abcdefgh"))

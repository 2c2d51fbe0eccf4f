"""What a real vLLM writes, against the engine in this process and against the model's own log-probabilities."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from with_vllm.conftest import TEMPERATURE, Served

from align.errors import RunError, UserError
from align.rollout.engine import Request, Sampling, StopReason, Written
from align.rollout.settings import RolloutSection
from align.rollout.vllm.connect import Expected, check_vocabulary, join

ROUNDING = 1e-4  # of a log-probability; measured 1.5e-5
BEGINNINGS = ("Once upon a time", "Lily and Tom", "The big dog", "One day, a little girl named Sue", "Mom said")


def prompts(served: Served) -> list[np.ndarray]:
    return [np.array(served.tokenizer(text)["input_ids"], dtype=np.int32) for text in BEGINNINGS]


def sampling(served: Served, **given: Any) -> Sampling:
    given = {"max_completion_length": 40, "stop_token_ids": (served.tokenizer.eos_token_id,), **given}
    return Sampling(**{"temperature": TEMPERATURE, **given})


def assert_same(ours: list[list[Written]], theirs: list[list[Written]]) -> None:
    for (one,), (other,) in zip(ours, theirs, strict=True):
        assert one.tokens.tolist() == other.tokens.tolist()
        assert one.stop == other.stop
        np.testing.assert_allclose(one.logps, other.logps, atol=ROUNDING)


def disturb(model: torch.nn.Module, share: float) -> None:
    """Every weight moves, embeddings and norms too."""
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(share * weight.abs().mean() * torch.randn_like(weight))


def test_greedy_tokens_are_those_of_the_local_engine_before_and_after_an_update(served: Served):
    requests, greedy = [Request(p, (0,)) for p in prompts(served)], sampling(served, temperature=0.0)
    seen: list[list[list[int]]] = []
    for share in (0.0, 0.2, 0.2):
        disturb(served.model, share)
        written = served.push().write(requests, greedy)
        assert_same(served.local().write(requests, greedy), written)
        assert {w.version for (w,) in written} == {served.num_pushed}
        seen.append([w.tokens.tolist() for (w,) in written])
    assert seen[0] != seen[1] != seen[2]


def test_log_probabilities_are_the_models_under_the_temperature(served: Served):
    engine = served.push()
    largest = 0.0
    for request, row in zip(
        requests := [Request(p, tuple(range(6))) for p in prompts(served)],
        engine.write(requests, sampling(served)),
        strict=True,
    ):
        for written in row:
            ids = torch.tensor([[*request.prompt.tolist(), *written.tokens.tolist()]])
            with torch.no_grad():
                logits = served.model(input_ids=ids).logits[0, len(request.prompt) - 1 : -1]
            logps = (logits / TEMPERATURE).log_softmax(-1).gather(1, ids[0, len(request.prompt) :, None]).squeeze(1)
            largest = max(largest, float((logps - torch.from_numpy(written.logps)).abs().max()))
    print(f"largest difference of a log-probability: {largest:.1e}")
    assert largest < ROUNDING


def test_a_seed_says_what_is_drawn_whatever_is_written_beside_it(served: Served):
    engine, given = served.push(), sampling(served)
    (prompt, *others) = prompts(served)
    ((alone,),) = engine.write([Request(prompt, (3,))], given)
    requests = [*(Request(p, (0, 1, 2)) for p in others), Request(prompt, (2, 3))]
    among = engine.write(requests, given)[-1]
    assert among[1].tokens.tolist() == alone.tokens.tolist()
    assert among[0].tokens.tolist() != alone.tokens.tolist()


def test_samples_have_the_models_frequencies(served: Served):
    """The first token of 400 completions: its likeliest value as often as the model says, within four sigmas."""
    prompt = np.array(served.tokenizer("Lily and")["input_ids"], dtype=np.int32)
    given = sampling(served, max_completion_length=1)
    (row,) = served.push().write([Request(prompt, tuple(range(400)))], given)
    with torch.no_grad():
        logits = served.model(input_ids=torch.from_numpy(prompt.astype(np.int64))[None]).logits[0, -1]
    share, likeliest = (logits / TEMPERATURE).softmax(-1).max(-1)
    expected = share.item()
    found = sum(int(w.tokens[0]) == int(likeliest) for w in row) / len(row)
    assert abs(found - expected) < 4 * (expected * (1 - expected) / len(row)) ** 0.5 + 1e-9


@pytest.mark.parametrize(
    ("given", "reasons"),
    [
        ({"stop_strings": (" the", "!")}, {StopReason.STRING}),
        ({"stop_token_ids": (432, 426)}, {StopReason.EOS}),  # a comma and a full stop
        ({"stop_strings": (".",), "stop_token_ids": (432,)}, {StopReason.STRING, StopReason.EOS}),
        ({"max_completion_length": 3}, {StopReason.LENGTH}),
    ],
)
def test_completions_end_where_those_of_the_local_engine_do(
    given: dict[str, Any], reasons: set[StopReason], served: Served
):
    requests = [Request(p, (0,)) for p in prompts(served)]
    greedy = sampling(served, temperature=0.0, **given)
    written = served.push().write(requests, greedy)
    assert_same(served.local().write(requests, greedy), written)
    assert reasons <= {w.stop for (w,) in written}


def test_a_completion_that_was_cut_goes_on(served: Served):
    (prompt, *_), greedy = prompts(served), sampling(served, temperature=0.0)
    engine = served.push()
    ((whole,),) = engine.write([Request(prompt, (4,))], greedy)
    ((first,),) = engine.write([Request(prompt, (4,), window=7)], greedy)
    ((rest,),) = engine.write([Request(prompt, (4,), prefix=first.tokens)], greedy)
    assert (first.stop, len(first.tokens)) == (StopReason.WINDOW, 7)
    assert [*first.tokens, *rest.tokens] == whole.tokens.tolist()


def test_weights_that_somebody_else_loads_are_noticed(served: Served):
    engine = served.push()
    served.server.load_weights(served.folder, "stranger:1")
    with pytest.raises(RunError, match=r"before a batch its weights are 'stranger:1', expected 'test:1'"):
        engine.write([Request(prompts(served)[0], (0,))], sampling(served))


def test_weights_that_are_not_there_are_told(served: Served):
    with pytest.raises(RunError, match="collective_rpc: answers 500"):
        served.server.load_weights(Path("/no/such/folder"), "test:0")


def test_a_prompt_beyond_the_context_is_told(served: Served):
    with pytest.raises(RunError, match="has 12 of 40 tokens: its context is full, the prompt has 500"):
        served.push().write([Request(np.full(500, 5, dtype=np.int32), (0,))], sampling(served))


def test_the_vocabulary_is_compared(served: Served):
    check_vocabulary(served.server, served.tokenizer)
    served.tokenizer.add_tokens(["<new>"])
    with pytest.raises(UserError, match="token 512 is another than '<new>'"):
        check_vocabulary(served.server, served.tokenizer)


@pytest.mark.parametrize(
    ("expected", "told"),
    [
        (Expected(("other/model",), {"hidden_size": 65}, 100, "processed_logprobs"), "serves .*, expected other/model"),
        (Expected(("policy",), {}, 513, "processed_logprobs"), r"takes 512 tokens \(max_model_len\), expected 513"),
        (Expected(("policy",), {}, 100, "raw_logprobs"), "gives processed_logprobs"),
    ],
)
def test_a_server_that_does_not_fit_is_refused(expected: Expected, told: str, served: Served):
    settings, url = RolloutSection(engine="vllm"), served.server.client.url
    with pytest.raises(UserError, match=told):
        join(settings, url, expected)
    fits = Expected(("somewhere",), {"hidden_size": 64}, 512, "processed_logprobs")
    assert join(settings, url, fits).model == "policy"

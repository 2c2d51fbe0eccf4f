"""The engine in this process against transformers' own generation, and against the scores of training."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from tiny_models import CONFIGS, config_of
from transformers import AutoConfig, AutoModelForCausalLM

from align.rollout.engine import Request, Sampling, StopReason
from align.rollout.local.engine import LocalEngine, queue, take
from align.rollout.local.shared_prompts import NAME
from align.rollout.local.uncached import PlainEngine

PAD, STOP = 0, 1


def model_of(kind: str, vocab_size: int = 50):
    torch.manual_seed(3)
    config = AutoConfig.for_model(**config_of(kind, vocab_size=vocab_size, pad_token_id=PAD, eos_token_id=STOP))
    return AutoModelForCausalLM.from_config(config).eval()


def engine_of(kind: str, batch_size: int = 64, **more: int) -> LocalEngine:
    return LocalEngine(model_of(kind, **more), PAD, lambda ids: " ".join(map(str, ids)), batch_size)


def sampling(**given: object) -> Sampling:
    return Sampling(**{"max_completion_length": 12, "stop_token_ids": (STOP,), **given})  # type: ignore[arg-type]


def prompts(*lengths: int) -> list[np.ndarray]:
    draw = np.random.default_rng(5)
    return [draw.integers(2, 50, n).astype(np.int32) for n in lengths]


@pytest.mark.parametrize("kind", list(CONFIGS))
def test_greedy_is_that_of_transformers(kind: str):
    engine = engine_of(kind)
    found = engine.write([Request(p, (0,)) for p in prompts(3, 9, 17)], sampling(temperature=0.0))
    for prompt, (written,) in zip(prompts(3, 9, 17), found, strict=True):
        ids = torch.from_numpy(prompt.astype(np.int64))[None]
        theirs = engine.model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False
        )
        assert written.tokens.tolist() == theirs[0, len(prompt) :].tolist()


def test_a_row_does_not_depend_on_the_batch_around_it():
    requests = [Request(p, tuple(range(10 * i, 10 * i + 3))) for i, p in enumerate(prompts(4, 11, 7, 5))]
    together = engine_of("llama").write(requests, sampling())
    one_by_one = [engine_of("llama", batch_size=1).write([Request(r.prompt, (s,))], sampling())[0][0]
                  for r in requests for s in r.seeds]  # fmt: skip
    for ours, alone in zip([w for ws in together for w in ws], one_by_one, strict=True):
        assert ours.tokens.tolist() == alone.tokens.tolist()
        np.testing.assert_allclose(ours.logps, alone.logps, rtol=1e-4, atol=1e-5)
        assert ours.stop == alone.stop


def test_what_is_written_goes_on_as_if_it_had_not_been_cut():
    (prompt,) = prompts(6)
    engine = engine_of("llama")
    ((whole,),) = engine.write([Request(prompt, (4,))], sampling(stop_token_ids=()))
    ((first,),) = engine.write([Request(prompt, (4,), window=5)], sampling(stop_token_ids=()))
    ((rest,),) = engine.write([Request(prompt, (4,), prefix=first.tokens)], sampling(stop_token_ids=()))
    assert (first.stop, rest.stop, whole.stop) == (StopReason.WINDOW, StopReason.LENGTH, StopReason.LENGTH)
    assert [*first.tokens, *rest.tokens] == whole.tokens.tolist()
    np.testing.assert_allclose([*first.logps, *rest.logps], whole.logps, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_log_probabilities_are_those_of_the_model(temperature: float):
    engine = engine_of("llama")
    (prompt,) = prompts(8)
    for written in engine.write([Request(prompt, tuple(range(6)))], sampling(temperature=temperature))[0]:
        ids = torch.tensor([[*prompt.tolist(), *written.tokens.tolist()]])
        with torch.no_grad():
            logps = (engine.model(input_ids=ids).logits[0, len(prompt) - 1 : -1] / temperature).log_softmax(-1)
        expected = logps.gather(1, ids[0, len(prompt) :, None]).squeeze(1)
        np.testing.assert_allclose(written.logps, expected.numpy(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", [LocalEngine, PlainEngine])
@pytest.mark.parametrize("refill", [False, True])
def test_rows_side_by_side_are_bounded_also_for_one_prompt(kind: type[LocalEngine], refill: bool):
    requests = [
        Request(p, tuple(range(20 * i, 20 * i + n)))
        for i, (p, n) in enumerate(zip(prompts(4, 11, 7), (19, 2, 8), strict=True))
    ]
    engine, heights = kind(model_of("llama"), PAD, str, 64), list[int]()
    expected = engine.write(requests, sampling())
    engine.batch_size, engine.refill = 4, refill
    engine.model.register_forward_pre_hook(
        lambda _, __, given: heights.append(len(given["input_ids"])), with_kwargs=True
    )
    found = engine.write([*requests, Request(requests[0].prompt, ())], sampling())
    assert [len(of_prompt) for of_prompt in found] == [19, 2, 8, 0]
    assert max(heights) <= 4
    for ours, free in zip([w for ws in found for w in ws], [w for ws in expected for w in ws], strict=True):
        assert ours.tokens.tolist() == free.tokens.tolist()
        np.testing.assert_allclose(ours.logps, free.logps, atol=1e-5)
        assert ours.stop == free.stop


def test_samples_follow_the_distribution():
    engine = engine_of("llama", batch_size=4000, vocab_size=12)
    prompt = np.array([3, 5, 7], dtype=np.int32)
    with torch.no_grad():
        first = engine.model(input_ids=torch.tensor([[3, 5, 7]])).logits[0, -1].softmax(-1)
        second = torch.stack([
            engine.model(input_ids=torch.tensor([[3, 5, 7, t]])).logits[0, -1].softmax(-1) for t in range(12)
        ])  # fmt: skip
    both = (first[:, None] * second).flatten().double().numpy()
    written = engine.write([Request(prompt, tuple(range(4000)))], sampling(max_completion_length=2, stop_token_ids=()))[
        0
    ]
    counts = np.bincount([12 * w.tokens[0] + w.tokens[1] for w in written], minlength=144)
    common = both * 4000 >= 5  # the rarer pairs are counted as one
    observed = [*counts[common], counts[~common].sum()]
    expected = np.array([*both[common], both[~common].sum()]) * 4000
    freedom = len(observed) - 1
    chi_square = ((np.array(observed) - expected) ** 2 / expected).sum()
    assert chi_square < freedom + 3.5 * (2 * freedom) ** 0.5  # about one in a thousand


def test_where_completions_end():
    engine = engine_of("llama")
    (prompt,) = prompts(5)
    ((free,),) = engine.write([Request(prompt, (8,))], sampling(stop_token_ids=()))
    stop = int(free.tokens[3])
    at = free.tokens.tolist().index(stop) + 1
    ((ended,),) = engine.write([Request(prompt, (8,))], sampling(stop_token_ids=(stop,)))
    assert (ended.stop, ended.tokens.tolist()) == (StopReason.EOS, free.tokens[:at].tolist())
    words = " ".join(map(str, free.tokens[1:3]))
    ((said,),) = engine.write([Request(prompt, (8,))], sampling(stop_token_ids=(), stop_strings=(words,)))
    assert said.stop == StopReason.STRING
    assert words in " ".join(map(str, said.tokens))
    assert words not in " ".join(map(str, said.tokens[:-1]))


def test_those_that_wait_take_the_rows_of_those_that_ended(monkeypatch: pytest.MonkeyPatch):
    requests = [Request(p, tuple(range(9 * i, 9 * i + 2))) for i, p in enumerate(prompts(4, 11, 7, 5, 3, 16, 9, 8, 2))]
    stops = tuple(range(1, 8))
    engine, alone = engine_of("llama", batch_size=6), engine_of("llama", batch_size=1)
    expected = [alone.write([Request(r.prompt, (s,))], sampling(stop_token_ids=stops))[0][0]
                for r in requests for s in r.seeds]  # fmt: skip
    engine.refill = True
    read, heights = engine._read, list[int]()
    monkeypatch.setattr(engine, "_read", lambda batch, tokens: (heights.append(len(tokens)), read(batch, tokens)))
    for kernel in ("sdpa", NAME):  # prompts repeated for their completions, and shared by them
        engine.model.set_attn_implementation(kernel)
        heights.clear()
        found = engine.write(requests, sampling(stop_token_ids=stops))
        for ours, one in zip([w for ws in found for w in ws], expected, strict=True):
            assert ours.tokens.tolist() == one.tokens.tolist()
            np.testing.assert_allclose(ours.logps, one.logps, rtol=1e-4, atol=1e-5)
            assert ours.stop == one.stop
        assert max(heights) <= 6
        assert any(later > before for before, later in pairwise(heights))  # rows were added to others


def test_the_queue_keeps_like_lengths_together_and_loses_nobody():
    requests = [Request(p, (0, 1, 2)) for p in prompts(4, 20, 5, 19, 6)]
    waiting = queue([*requests, Request(requests[0].prompt, ())])
    assert list(waiting) == [1, 3, 4, 2, 0]  # nothing is asked of the last one
    assert list(take(waiting, requests, 7)) == [1, 3]
    assert list(take(waiting, requests, 2)) == []
    assert list(take(waiting, requests, 3)) == [4]

"""Writing without a cache, and finding out which models need it."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bench_of_steps import alone
from online_rig import Words
from tiny_models import CONFIGS, HEADS, PLAIN
from transformers import AutoConfig, AutoModelForCausalLM

from align.batches import Tokens
from align.cli.main import main
from align.errors import RunError
from align.rollout.engine import Request, Sampling, StopReason
from align.rollout.local import engine as local_engine
from align.rollout.local.cache_check import cache_finding
from align.rollout.local.engine import LocalEngine
from align.rollout.local.shared_prompts import sharable
from align.rollout.local.uncached import PlainEngine
from align.rollout.policy_engine import LocalEngines
from align.scoring.layout import lay_out
from align.scoring.score import Kernel, Scorer

PAD, STOP, VOCABULARY = 0, 1, 50
STATES: dict[str, dict[str, Any]] = {
    "mamba": {"hidden_size": 32, "num_hidden_layers": 2, "state_size": 8, "initializer_range": 0.3},
    "qwen3_next": {
        **HEADS, "num_hidden_layers": 4, "layer_types": ["linear_attention", "full_attention"] * 2,
        "linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 8, "linear_value_head_dim": 8,
        "num_experts": 0,
    },
    "lfm2": {**PLAIN, "layer_types": ["conv", "full_attention"], "block_multiple_of": 8},
    "recurrent_gemma": {**HEADS, "num_hidden_layers": 3, "attention_window_size": 6, "lru_width": 32},
}  # fmt: skip
WINDOWED = ("qwen2", "gemma2", "gemma3_text", "mistral", "mixtral")


def model_of(kind: str, **changes: Any) -> Any:
    torch.manual_seed(3)
    ids = {"vocab_size": VOCABULARY, "pad_token_id": PAD, "eos_token_id": STOP}
    config = AutoConfig.for_model(kind, **{**copy.deepcopy((CONFIGS | STATES)[kind]), **ids, **changes})
    return AutoModelForCausalLM.from_config(config).eval()


def scorer_of(kind: str, **changes: Any) -> Scorer:
    return Scorer(model_of(kind, **changes), Kernel("eager", own_head=False)).eval()


def engine_of(kind: str, batch_size: int = 64) -> PlainEngine:
    return PlainEngine(model_of(kind), PAD, lambda ids: " ".join(map(str, ids)), batch_size)


def sampling(**given: Any) -> Sampling:
    return Sampling(**{"max_completion_length": 12, "stop_token_ids": (STOP,), **given})


def prompts(*lengths: int) -> list[np.ndarray]:
    draw = np.random.default_rng(5)
    return [draw.integers(2, VOCABULARY, n).astype(np.int32) for n in lengths]


@pytest.mark.parametrize("kind", list(CONFIGS))
def test_a_plain_cache_is_found_right(kind: str):
    assert cache_finding(scorer_of(kind)) == ""


@pytest.mark.parametrize("kind", WINDOWED)
def test_a_cache_of_a_long_window_is_found_right(kind: str):
    assert cache_finding(scorer_of(kind, sliding_window=40)) == ""


@pytest.mark.parametrize("kind", STATES)
def test_a_cache_of_another_shape_is_found(kind: str):
    assert cache_finding(scorer_of(kind))


def forgets(scorer: Scorer, monkeypatch: pytest.MonkeyPatch) -> None:
    forward = scorer.model.forward

    def forgetful(**given: Any) -> Any:
        if given.get("past_key_values") is not None:
            given["attention_mask"] = given["attention_mask"].clone()
            given["attention_mask"][:, 2:5] = 0
        return forward(**given)

    monkeypatch.setattr(scorer.model, "forward", forgetful)


def test_a_cache_that_forgets_is_found(monkeypatch: pytest.MonkeyPatch):
    scorer = scorer_of("llama")
    forgets(scorer, monkeypatch)
    assert "log-probabilities differ by" in cache_finding(scorer)


@pytest.mark.parametrize("kind", [*STATES, "llama", "mistral"])
def test_greedy_is_that_of_transformers(kind: str):
    engine = engine_of(kind)
    found = engine.write([Request(p, (0,)) for p in prompts(3, 9, 17)], sampling(temperature=0.0))
    for prompt, (written,) in zip(prompts(3, 9, 17), found, strict=True):
        ids = torch.from_numpy(prompt.astype(np.int64))[None]
        theirs = engine.model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False
        )
        assert written.tokens.tolist() == theirs[0, len(prompt) :].tolist()


@pytest.mark.parametrize("kind", STATES)
def test_log_probabilities_are_the_trainers(kind: str):
    scorer = scorer_of(kind)
    engine = PlainEngine(scorer.model, PAD, str, 64)
    requests = [Request(p, (4, 5)) for p in prompts(3, 9)]
    for request, written in zip(requests, engine.write(requests, sampling(stop_token_ids=())), strict=True):
        for one in written:
            rows = lay_out([[Tokens(request.prompt, one.tokens, np.ones(len(one.tokens), dtype=bool))]], "padded")
            with torch.no_grad():
                scored = scorer(rows, ("logps",), 1)["logps"]
            np.testing.assert_allclose(one.logps, scored.numpy(), rtol=1e-4, atol=1e-4)


def test_it_writes_what_the_engine_with_a_cache_writes():
    requests = [Request(p, tuple(range(10 * i, 10 * i + 3))) for i, p in enumerate(prompts(4, 11, 7, 5))]
    plain, cached = (
        kind(model_of("llama"), PAD, str, size).write(requests, sampling())
        for kind, size in ((PlainEngine, 4), (LocalEngine, 64))
    )
    for ours, theirs in zip([w for ws in plain for w in ws], [w for ws in cached for w in ws], strict=True):
        assert ours.tokens.tolist() == theirs.tokens.tolist()
        assert ours.stop == theirs.stop
        np.testing.assert_allclose(ours.logps, theirs.logps, rtol=1e-4, atol=1e-5)


def test_what_is_written_goes_on_as_if_it_had_not_been_cut():
    (prompt,) = prompts(6)
    engine = engine_of("mamba")
    ((whole,),) = engine.write([Request(prompt, (4,))], sampling(stop_token_ids=()))
    ((first,),) = engine.write([Request(prompt, (4,), window=5)], sampling(stop_token_ids=()))
    ((rest,),) = engine.write([Request(prompt, (4,), prefix=first.tokens)], sampling(stop_token_ids=()))
    assert (first.stop, rest.stop) == (StopReason.WINDOW, StopReason.LENGTH)
    assert [*first.tokens, *rest.tokens] == whole.tokens.tolist()


@pytest.mark.parametrize(("kind", "engine"), [("mamba", PlainEngine), ("llama", LocalEngine)])
def test_the_engine_is_chosen_once_and_aloud(kind: str, engine: type[LocalEngine]):
    told: list[str] = []
    engines = LocalEngines(scorer_of(kind), Words(), 8, alone(), say=told.append)
    for version in (0, 1):
        with engines.at(version) as found:
            assert type(found) is engine
    assert len(told) == (engine is PlainEngine)
    assert all("runs the whole sequence again" in text for text in told)


def test_who_is_not_there_cannot_write():
    engines = LocalEngines(scorer_of("llama"), Words(), 8, alone(), others={"target": scorer_of("llama")})
    with engines.at(0, "target") as found:
        assert isinstance(found, LocalEngine)
    with pytest.raises(RunError, match="asks rival to write; there are policy, target"), engines.at(0, "rival"):
        pass


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("how", ["autocast", "weights"])
def test_in_bfloat16_a_right_cache_is_found_right(how: str, attention: str, monkeypatch: pytest.MonkeyPatch):
    shared: list[bool] = []
    monkeypatch.setattr(local_engine, "sharable", lambda *given: shared.append(sharable(*given)) or shared[-1])
    model = model_of("llama")
    model.set_attn_implementation(attention)
    scorer = Scorer(model, Kernel(attention, torch.bfloat16 if how == "autocast" else None)).eval()
    if how == "weights":
        scorer.bfloat16()
    told: list[str] = []
    with LocalEngines(scorer, Words(), 8, alone(), say=told.append).at(0) as engine:
        assert type(engine) is LocalEngine
    assert not told
    assert all(shared) is (attention == "sdpa"), "a prompt is read once where torch's attention reads it"


@pytest.mark.parametrize("how", ["autocast", "weights"])
def test_in_bfloat16_a_cache_that_forgets_is_found(how: str, monkeypatch: pytest.MonkeyPatch):
    scorer = scorer_of("llama")
    if how == "weights":
        scorer.bfloat16()
    else:
        scorer.kernel = Kernel("eager", torch.bfloat16, own_head=False)
    forgets(scorer, monkeypatch)
    with torch.no_grad(), scorer.precision(torch.device("cpu")):
        assert "log-probabilities differ by" in cache_finding(scorer)


def test_a_run_of_such_a_model_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    config = {"model_type": "mamba", **STATES["mamba"]}
    words = ("model.model_name_or_path=null", f"model.config={json.dumps(config)}", "data.num_rows=30",
             "model.tokenizer_name_or_path=asset:stories260k", "training.max_steps=2", "training.eval_steps=0",
             "training.num_train_epochs=null", "training.batch_size=4", "training.max_eval_rows=4",
             "rollout.num_generations=2", "rollout.max_completion_length=6", "logging.num_completions=0")  # fmt: skip
    assert main(["train", "rloo", f"training.output_dir={tmp_path / 'run'}", *words]) == 0
    assert "runs the whole sequence again" in "".join(capsys.readouterr())

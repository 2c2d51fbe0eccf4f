"""What text a completion is to stop strings, rewards and environments."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from rollout.fake_vllm import completion, serving
from small_runs import TINY, lines, train
from tiny_models import word_tokenizer

from align.models.settings import ModelSection
from align.models.tokenizer import load_tokenizer
from align.rollout.engine import Request, Sampling, StopReason
from align.rollout.policy_engine import Readable, text_of
from align.rollout.vllm.client import Client
from align.rollout.vllm.engine import VLLMEngine
from align.rollout.vllm.fleet import Address, Fleet

ANSWER = "</answer>"
RUN = (
    "data.num_rows=40", "data.max_length=64", "rollout.num_generations=8", "rollout.max_completion_length=40",
    "training.batch_size=4", "training.max_steps=1", "training.eval_steps=0", "training.num_train_epochs=null",
    "data.validation=0.0", "data.test=0.0", "rollout.record=true", "rollout.temperature=2.0",
    "model.model_name_or_path=null", f"model.config={json.dumps(TINY)}",
    "model.tokenizer_name_or_path=asset:stories260k", f"model.add_tokens=['{ANSWER}', '<more>']",
    f"rollout.stop_strings=['{ANSWER}']",
    f"reward.functions=[{{name: answer_format, settings: {{pattern: '.*{ANSWER}'}}}}]",
)  # fmt: skip


def test_tokens_that_the_recipe_adds_end_completions_and_are_judged(tmp_path: Path):
    """Each token is one of 514, about equally likely, in 32 completions of up to 40."""
    written = lines(train("rloo", tmp_path / "run", *RUN) / "rollouts" / "000000.jsonl")
    ended = [t for t in written if t["stop"] == "stop_string"]
    assert ended
    assert all(t["tokens"][-1] == 512 and t["tokens"].count(512) == 1 for t in ended)
    for t in written:
        assert t["text"].endswith(ANSWER) == (t in ended)
        assert t["rewards"] == {"answer_format": float(t in ended)}
        assert t["text"].count("<more>") == t["tokens"].count(513)
        assert "</s>" not in t["text"]
        assert "<s>" not in t["text"]


@pytest.mark.parametrize("given", ["w1 <a> w2 </s>", "<s> w1 </a> </s> </s>", "", "w3"])
def test_other_special_tokens_are_no_text(given: str, tmp_path: Path):
    word_tokenizer(tmp_path, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    section = ModelSection(tokenizer_name_or_path=str(tmp_path), add_tokens=["<a>", "</a>", "<end>"])
    tokenizer = load_tokenizer(section)
    ids = tokenizer(given)["input_ids"]
    plain = tokenizer.decode(ids, skip_special_tokens=True)
    assert text_of(Readable(tokenizer, frozenset()), ids) == plain == text_of(tokenizer, ids)
    kept = frozenset(tokenizer.convert_tokens_to_ids(["<a>", "</a>"]))
    expected = " ".join(word for word in given.split() if word not in ("<s>", "</s>"))
    assert text_of(Readable(tokenizer, kept), ids) == expected


def test_a_server_is_told_of_the_token_that_its_text_leaves_out():
    texts = {5: "a", 9: ANSWER}
    with serving() as fake:
        fake.answers["/v1/completions"] = completion([5, 5, 9], finish_reason="stop", stop_reason=9)
        fleet = Fleet([Address(Client(fake.url, timeout=5.0, retries=1), "policy")], "mine:3", print)
        engine = VLLMEngine(fleet, lambda ids: "".join(texts[i] for i in ids), 4, 3, marks=(9,))
        sampling = Sampling(max_completion_length=6, stop_token_ids=(1,), stop_strings=(ANSWER,))
        ((written,),) = engine.write([Request(np.array([7]), (0,))], sampling)
    assert (written.tokens.tolist(), written.stop) == ([5, 5, 9], StopReason.STRING)
    assert fake.asked[1][1]["stop_token_ids"] == [1, 9]

"""A real vLLM server as an endpoint that judges: its replies are remembered, told and read like any other's.

The shipped model writes stories and no verdicts; so its instructions have labels that stories hold, and what is tested
is that the whole way is the same as with the model in this process.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from with_vllm.conftest import Served

from align.judges.asking import ModelJudge
from align.judges.base import Order, Question
from align.judges.named import JudgeSpec, Means, make_judge
from align.judges.replies import Replies
from align_eval.judging.endpoint import examine

INSTRUCTIONS = """
version: 1
kind: pairwise
form: labels
labels: {Lily: A, Tom: B, dog: tie}
user: "{prompt} {answer_a} {answer_b}"
"""
NAMES = ("Lily", "Tom", "a dog", "Sue", "Mom")
ORDERS: tuple[Order, ...] = ("ab", "ba")


@pytest.fixture
def spec(served: Served, tmp_path: Path) -> JudgeSpec:
    served.push()
    (tmp_path / "short.yaml").write_text(INSTRUCTIONS)
    url = served.server.client.url.rstrip("/") + "/v1"
    return JudgeSpec(
        judge=f"http:{served.server.model}", base_url=url, instructions=str(tmp_path / "short.yaml"), max_tokens=30
    )


def questions() -> list[Question]:
    return [
        Question(item=name, prompt="One day,", models=("x", "y"), answers=(name, "went out"), order=order)
        for name in NAMES
        for order in ORDERS
    ]


def test_it_replies_as_the_local_engine_does(spec: JudgeSpec, served: Served, tmp_path: Path) -> None:
    judge = make_judge(spec, Means(Replies(tmp_path / "replies")))
    assert isinstance(judge, ModelJudge)
    verdicts = judge.judge(questions())
    served.model.save_pretrained(tmp_path / "model")
    served.tokenizer.save_pretrained(tmp_path / "model")
    local = make_judge(JudgeSpec(judge=f"local:{tmp_path / 'model'}", instructions=spec.instructions, max_tokens=30))
    here = local.judge(questions())
    assert [v.raw.lstrip() for v in verdicts] == [v.raw.lstrip() for v in here]  # it keeps the first blank
    assert all(v.raw for v in verdicts)
    assert all(v.columns["tokens"]["completion"] <= 30 for v in verdicts)
    assert all((v.score is None) == bool(v.why) for v in verdicts)
    again = make_judge(spec, Means(Replies(tmp_path / "replies")))
    assert isinstance(again, ModelJudge)
    assert again.cost(questions()).calls == 0
    assert again.judge(questions()) == verdicts


def test_what_it_can(spec: JudgeSpec, served: Served) -> None:
    found = {check.what: check.works for check in examine(spec.base_url, served.server.model).checks}
    assert {found[what] for what in ("models", "chat", "usage", "limit", "seed", "logprobs")} == {"yes"}
    assert found["verdict"] == "no"  # a writer of stories

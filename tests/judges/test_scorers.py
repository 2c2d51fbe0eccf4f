"""Reward models, implicit rewards, pairwise models, rules and local models as judges, held against what they ask."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from align.errors import UserError
from align.judges.asking import ModelJudge
from align.judges.base import Question, Text
from align.judges.local import LocalSpeaker
from align.judges.named import JudgeSpec, Means, make_judge
from align.judges.replies import Replies
from align.judges.rules import RuleJudge
from align.judges.scorers import ImplicitJudge
from align.models.load import load_policy
from align.models.settings import ModelSection
from align.models.sources import resolve
from align.models.tokenizer import load_tokenizer
from align.rewards.learned import Reward
from align.rewards.pairwise.oracle import two_answers
from align.rollout.folder import FolderWriter, Style

STORIES = "asset:stories260k"
PROMPT, ONE, OTHER = "Once upon a time", " there was a cat.", " it rained and rained."


def question(a: str = ONE, b: str | None = OTHER, prompt: Text = PROMPT, **more: Any) -> Question:
    answers = (a,) if b is None else (a, b)
    order = "" if b is None else "ab"
    return Question(item="q", prompt=prompt, models=("x/1", "y")[: len(answers)], answers=answers, order=order, **more)


@pytest.fixture(scope="module")
def reward_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("reward") / "model"
    section = ModelSection(model_name_or_path=STORIES)
    tokenizer = load_tokenizer(section, "scalar")
    load_policy(section, tokenizer, "scalar", Path()).save_pretrained(folder)  # its head is drawn, the same each time
    tokenizer.save_pretrained(folder)
    return str(folder)


def test_a_reward_model_compares_by_its_scores(reward_model: str) -> None:
    judge = make_judge(JudgeSpec(judge=f"reward:{reward_model}"))
    one, other = Reward(reward_model)([PROMPT] * 2, [ONE, OTHER])
    both, back, even = judge.judge([question(), question(OTHER, ONE), question(ONE, ONE)])
    assert both.columns["grades"] == pytest.approx([one, other])
    assert (both.score, back.score, even.score) == (float(one > other), float(other > one), 0.5)
    grade = make_judge(JudgeSpec(judge=f"reward:{reward_model}", instructions="graded"))
    assert grade.judge([question(b=None)])[0].score == pytest.approx(one)
    assert judge.identity() != grade.identity()
    assert "model" not in str(judge.name.partition(":")[0])


def test_a_pairwise_model_is_asked_in_both_orders(reward_model: str) -> None:
    judge = make_judge(JudgeSpec(judge=f"pairwise:{reward_model}", scale=2.0))
    ab, ba = Reward(reward_model)([PROMPT] * 2, [two_answers(ONE, OTHER), two_answers(OTHER, ONE)])
    verdict, even = judge.judge([question(), question(ONE, ONE)])
    assert verdict.columns["probability"] == pytest.approx(1 / (1 + torch.tensor(-(ab - ba) / 2).exp().item()))
    assert verdict.score == float(ab > ba)
    assert (even.score, even.columns["probability"]) == (0.5, 0.5)


def test_implicit_rewards(tmp_path: Path) -> None:
    """beta (log pi - log ref), by transformers' own logits."""
    writer = FolderWriter(STORIES)
    model = load_policy(ModelSection(model_name_or_path=STORIES), writer.tokenizer, "lm", Path())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.03)
    model.save_pretrained(tmp_path / "policy")
    writer.tokenizer.save_pretrained(tmp_path / "policy")

    def by_hand(which: Any, text: str) -> float:
        tokens = writer.tokens(PROMPT, text)
        ids = torch.tensor([*tokens.prompt.tolist(), *tokens.completion.tolist()])[None]
        logps = which(ids).logits[0].double().log_softmax(-1)
        begin = len(tokens.prompt)
        return sum(logps[place - 1, ids[0, place]].item() for place in range(begin, ids.shape[1]))

    policy = str(tmp_path / "policy")
    judge = ImplicitJudge(name="dpo", model=policy, reference=STORIES, beta=0.2, batch_size=2)
    with torch.no_grad():
        right = [0.2 * (by_hand(model, t) - by_hand(writer._model, t)) for t in (ONE, OTHER)]
    verdict, empty = judge.judge([question(), question("", ONE)])
    assert verdict.columns["grades"] == pytest.approx(right, rel=1e-4)
    assert verdict.score == float(right[0] > right[1])
    assert empty.score is not None  # an empty answer is its end alone
    (long,) = judge.judge([question(ONE * 200)])
    assert long.why.startswith("the answer of x/1: prompt and answer have ")
    with pytest.raises(UserError, match="has no reference"):
        make_judge(JudgeSpec(judge=f"implicit:{policy}"))


def test_rules_of_length() -> None:
    longer, shorter = (make_judge(JudgeSpec(judge=f"rule:{name}")) for name in ("longer", "shorter"))
    texts = [("abc", "ab"), ("ab", "abc"), ("ab ", " ab\n"), ("", "a"), ("", "")]
    pairs = [question(a, b) for a, b in texts]
    assert [v.score for v in longer.judge(pairs)] == [1.0, 0.0, 0.5, 0.0, 0.5]
    assert [v.score for v in shorter.judge(pairs)] == [0.0, 1.0, 0.5, 1.0, 0.5]
    talk = question("abc", "ab", prompt=[{"role": "user", "content": "?"}])
    assert longer.judge([talk])[0].score == 1.0


def test_rules_are_reward_functions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    own = RuleJudge(name="own", rule="rule_functions:vowels")
    verdicts = own.judge([question("aei", "xyz"), question("a", "!")])
    assert verdicts[0].score == 1.0
    assert verdicts[1].why == "the answer of y: the rule does not apply"
    assert list(own.identity()["code"]) == ["rule_functions"]
    (failed,) = RuleJudge(name="strict", rule="rule_functions:strict").judge([question("fine", "boom")])
    assert failed.score is None
    assert failed.why.startswith("the answer of y: ValueError: it went off")
    numbers = RuleJudge(name="m", rule="math_answer", settings={"column": "reference"})
    assert numbers.judge([question("It is 4.", "It is 5.", reference="4")])[0].score == 1.0


def test_a_rule_that_counts_tokens_needs_a_tokenizer() -> None:
    settings = {"target": 10}
    with pytest.raises(UserError, match=r"judge n: looks at completion_ids, and .*: name the model .*tokenizer=FOLDER"):
        RuleJudge(name="n", rule="length", settings=settings).judge([question()])
    judge = RuleJudge(name="n", rule="length", settings=settings, tokenizer=STORIES)
    assert judge.judge([question("The cat sat.", "The cat sat on the mat, and it was a very old mat.")])[0].score == 1.0


INSTRUCTIONS = """
version: 1
kind: pairwise
form: labels
labels: {Lily: A, Tom: B, dog: tie}
user: "{prompt} {answer_a} {answer_b}"
"""


def test_a_local_model_judges_through_the_engine(tmp_path: Path) -> None:
    (tmp_path / "short.yaml").write_text(INSTRUCTIONS)
    spec = JudgeSpec(judge=f"local:{STORIES}", instructions=str(tmp_path / "short.yaml"), max_tokens=40, batch_size=2)
    replies = Replies(tmp_path / "replies")
    asked = [question("One day, Lily", "and"), question("One day, Tom", "and")]
    judge = make_judge(spec, Means(replies))
    verdicts = judge.judge(asked)
    writer = FolderWriter(STORIES)
    for q, verdict in zip(asked, verdicts, strict=True):
        ids = writer.ids([{"role": "user", "content": f"{PROMPT} {q.answers[0]} and"}])
        ((said,),) = writer.write([ids], [(0,)], Style(max_new_tokens=40))
        assert verdict.raw == said.text
        assert verdict.columns["tokens"] == {"prompt": len(ids), "completion": said.num_tokens}
        assert (verdict.score is None) == bool(verdict.why)
    shutil.copytree(resolve(STORIES), tmp_path / "copy")
    moved = make_judge(replace(spec, judge=f"local:{tmp_path / 'copy'}"), Means(replies))
    assert isinstance(moved, ModelJudge)
    assert moved.identity() == judge.identity()  # weights, not names
    assert moved.cost(asked).calls == 0
    assert moved.cost([question("new", "one")]).exact


def test_a_prompt_that_is_too_long_for_a_local_judge() -> None:
    judge = make_judge(JudgeSpec(judge=f"local:{STORIES}", max_tokens=20))
    (verdict,) = judge.judge([question(ONE * 100)])
    assert verdict.score is None
    assert verdict.why == "the prompt is longer than the 492 tokens that 20 of a reply leave"


def test_who_cannot_judge_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        LocalSpeaker(str(tmp_path / "nothing"))
    with pytest.raises(UserError, match=r"rule lenght: no such rule; there are longer, .* Did you mean length"):
        make_judge(JudgeSpec(judge="rule:lenght")).judge([question()])
    with pytest.raises(UserError, match="takes no settings"):
        make_judge(JudgeSpec(judge="rule:longer", settings={"a": 1}))

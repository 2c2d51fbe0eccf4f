"""Recorded verdicts, panels, and judges by name."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from align.errors import UserError
from align.judges.base import Order, Question, Verdict
from align.judges.named import JudgeSpec, Panelled, make_judge, read_spec
from align.judges.panel import Panel
from align.judges.recorded import RecordedJudge


def question(order: Order = "ab", models: tuple[str, ...] = ("a", "b"), repeat: int = 0, item: str = "q") -> Question:
    return Question(item=item, prompt="?", models=models, answers=("x",) * len(models), order=order, repeat=repeat)


# ---- recorded -------------------------------------------------------------------------------------------------------


def recorded(folder: Path, *rows: dict[str, Any]) -> RecordedJudge:
    (folder / "human.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return RecordedJudge(name="human", file=folder / "human.jsonl")


def test_recorded_verdicts_in_any_form(tmp_path: Path) -> None:
    judge = recorded(
        tmp_path,
        {"item": "q", "models": ["a", "b"], "order": "ab", "score": 1.0, "raw": "[[A]]", "columns": {"grades": [9, 7]}},
        {"item": "q", "models": ["b", "a"], "order": "ab", "winner": "b"},  # b was shown first
        {"item": "q", "models": ["a", "b"], "order": "ab", "winner": "tie", "repeat": 1},
        {"item": "q", "models": ["a", "c"], "winner": None, "why": "they left it out"},
        {"item": "q", "models": ["a", "d"], "winner": None},
        {"item": "q", "models": ["a"], "score": 7.5},
    )
    asked = [
        question(), question("ba"), question(repeat=1), question(models=("a", "c")), question(models=("a", "d")),
        question("", ("a",)), question(models=("c", "a")), question(item="other"),
    ]  # fmt: skip
    found = judge.judge(asked)
    assert [v.score for v in found] == [1.0, 0.0, 0.5, None, None, 7.5, None, None]
    assert (found[0].raw, found[0].columns) == ("[[A]]", {"grades": [9, 7]})
    assert [v.why for v in found[3:5]] == ["they left it out", "no reason was recorded"]
    assert found[6].why == "they left it out"
    assert found[7].why == "is not recorded in human.jsonl"
    assert judge.ordered
    (back,) = judge.judge([question("ba", ("b", "a"))])
    assert (back.score, back.columns["grades"]) == (0.0, [7, 9])


def test_people_who_saw_no_order(tmp_path: Path) -> None:
    judge = recorded(tmp_path, {"item": "q", "models": ["b", "a"], "winner": "a"})
    (verdict,) = judge.judge([question()])
    assert (verdict.score, verdict.columns) == (1.0, {"ordered": False})
    assert not judge.ordered


@pytest.mark.parametrize(
    ("row", "finding"),
    [
        ({"models": ["a", "b"], "winner": "a"}, "item: found None"),
        ({"item": "q", "models": "a", "score": 1}, "models: found 'a'"),
        ({"item": "q", "models": ["a", "b"], "winner": "c"}, "winner: found 'c'; expected a, b, tie or null"),
        ({"item": "q", "models": ["a", "b"], "score": 7}, "score: found 7; expected 0 to 1"),
        ({"item": "q", "models": ["a", "b"]}, "expected one of score and winner"),
        ({"item": "q", "models": ["a", "b"], "score": 1, "ordr": "ab"}, "no such key: ordr"),
        ({"item": "q", "models": ["a", "b"], "winner": "b"}, "contradicts an earlier row on q of a and b"),
    ],
)
def test_rows_that_are_no_verdicts(tmp_path: Path, row: dict[str, Any], finding: str) -> None:
    good = {"item": "q", "models": ["a", "b"], "winner": "a"}
    with pytest.raises(UserError) as error:
        recorded(tmp_path, good, row, good).judge([question()])
    assert "human.jsonl:2: " in str(error.value)
    assert finding in str(error.value)


def test_a_file_without_verdicts(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no verdicts"):
        recorded(tmp_path).judge([question()])
    with pytest.raises(UserError, match="cannot be read"):
        make_judge(JudgeSpec(judge=f"recorded:{tmp_path / 'none.jsonl'}")).judge([question()])


# ---- panels ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fixed:
    """A judge that says one thing."""

    name: str
    score: float | None
    failed: bool = False
    ordered = True
    pairwise = True

    def identity(self) -> dict[str, Any]:
        return {"fixed": self.score}

    def judge(self, questions: Sequence[Question]) -> list[Verdict]:
        why, columns = ("" if self.score is not None else "is silent"), ({"again": True} if self.failed else {})
        told = [(q.item, q.models, q.order) for q in questions]
        return [Verdict(item=i, models=m, judge=self.name, order=o, score=self.score, why=why, columns=columns)
                for i, m, o in told]  # fmt: skip


def said(*scores: float | None, **more: Any) -> Verdict:
    judges = tuple(Fixed(f"j{i}", score) for i, score in enumerate(scores))
    (verdict,) = Panel(name="panel", judges=judges, **more).judge([question()])
    return verdict


def test_majority_and_mean() -> None:
    assert said(1.0, 1.0, 0.0).score == 1.0
    assert said(1.0, 0.5, 0.5).score == 0.5
    assert said(1.0, 0.9, 0.0).score == 1.0  # a chance is a vote
    assert said(1.0, 0.0, 0.5, rule="mean").score == 0.5
    assert said(1.0, 1.0, 0.0, rule="mean").score == pytest.approx(2 / 3)
    assert said(1.0, 1.0, 0.0).columns["judges"] == {"j0": 1.0, "j1": 1.0, "j2": 0.0}


def test_a_split_panel_is_flagged() -> None:
    verdict = said(1.0, 0.0)
    assert (verdict.score, verdict.columns["flags"]) == (0.5, ["the judges are split"])


def test_a_panel_that_lost_too_many_gives_no_verdict() -> None:
    lost = said(1.0, None, None)
    assert lost.score is None
    assert lost.why == "1 of 3 judges have a verdict, 2 are needed (j1: is silent; j2: is silent)"
    assert said(1.0, 1.0, None).score == 1.0
    assert said(1.0, 1.0, None, quorum=3).score is None
    assert said(1.0, None, None, quorum=1).score == 1.0
    assert said(None, None, rule="mean").score is None
    again = Panel(name="p", judges=(Fixed("a", None, failed=True), Fixed("b", None))).judge([question()])
    assert again[0].columns == {"again": True}


def test_panels_that_are_refused() -> None:
    with pytest.raises(UserError, match="has 1 judges"):
        said(1.0)
    with pytest.raises(UserError, match="two judges are called x"):
        Panel(name="p", judges=(Fixed("x", 1.0), Fixed("x", 0.0)))
    with pytest.raises(UserError, match="but a compares, rule:longer grades"):
        Panel(name="p", judges=(Fixed("a", 1.0), make_judge(JudgeSpec(judge="rule:longer", instructions="graded"))))
    with pytest.raises(UserError, match="quorum 4"):
        said(1.0, 0.0, 1.0, quorum=4)


# ---- by name --------------------------------------------------------------------------------------------------------


def test_a_panel_out_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "three.yaml").write_text(
        "judges: [rule:longer, {judge: rule:longer, name: again}, {judge: rule:shorter}]\nrule: mean\nquorum: 3\n"
    )
    spec = read_spec(str(tmp_path / "three.yaml"), {})
    assert isinstance(spec, Panelled)
    panel = make_judge(spec)
    assert panel.name == "three"
    asked = Question(item="q", prompt="?", models=("a", "b"), answers=("xx", "y"), order="ab")
    assert panel.judge([asked])[0].score == pytest.approx(2 / 3)


def test_names_in_results_hold_no_folders() -> None:
    assert JudgeSpec(judge="local:elsewhere/runs/judge-7").called == "local:judge-7"
    assert JudgeSpec(judge="recorded:elsewhere/human.jsonl").called == "recorded:human"
    assert JudgeSpec(judge="http:org/model", instructions="graded").called == "http:org/model (graded)"
    assert JudgeSpec(judge="http:org/model", name="mine").called == "mine"


def test_a_function_of_ones_own_is_a_rule(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_rewards.py").touch()
    with pytest.raises(UserError, match=r"A function of yours is rule:my_rewards:happy$"):
        make_judge(read_spec("my_rewards:happy", {}))


@pytest.mark.parametrize(
    ("written", "given", "finding"),
    [
        ("longer", {}, "or a YAML file. Did you mean rule:longer?"),
        ("rules:longer", {}, "Did you mean rule?"),
        ("rule:", {}, "expected recorded:"),
        ("http:m", {}, "has no endpoint; add --base-url"),
        ("rule:longer", {"temperature": 0.5}, "temperature has no effect on a judge of kind rule"),
        ("http:m", {"base_url": "http://h", "votes": 0}, "votes: found 0; expected 1 or more"),
        ("http:m", {"base_url": "http://h", "votes": "3"}, "votes: found '3'; expected int"),
        ("http:m", {"base_url": "http://h", "temprature": 1}, "no such key; there are judge, name"),
        ("http:m", {"base_url": "http://h", "instructions": "pairwise2"}, "Did you mean pairwise?"),
    ],
)
def test_judges_that_are_refused(written: str, given: dict[str, Any], finding: str) -> None:
    with pytest.raises(UserError) as error:
        make_judge(read_spec(written, given))
    assert finding in str(error.value)


def test_files_that_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "judge.yaml"
    for text, given, finding in (
        ("judge: rule:longer\nname: a", {"name": "b"}, "name: stands in the file and on the command line"),
        ("judges: [rule:longer]\nrule: most", {}, "rule: found 'most'"),
        ("judges: [rule:longer, rule:shorter]", {"votes": 3}, "is a panel; votes belongs to each of its judges"),
        ("judges: [{jugde: rule:longer}]", {}, "judges.0: expected a judge"),
        ("- a", {}, "expected keys with values"),
        ("a: [", {}, "cannot be read"),
    ):
        path.write_text(text)
        with pytest.raises(UserError) as error:
            read_spec(str(path), given)
        assert finding in str(error.value)

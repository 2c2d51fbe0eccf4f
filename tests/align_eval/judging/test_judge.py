"""`align-eval judge` from answers to verdicts: once, in both orders, in every form."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from judging_command import RIGHT, command, evaluation, scores, usual
from judging_server import JudgingServer, serving

from align.errors import UserError
from align.judges.base import Verdict
from align.judges.named import JudgeSpec
from align_eval.cli import main
from align_eval.judging.run import judge
from align_eval.judging.settings import Judging
from align_eval.records import Answer, Item
from align_eval.store import append_answers, append_items, read_verdicts
from align_eval.store.judges import read_judges


def test_both_orders_once(tmp_path: Path, server: JudgingServer, capsys: pytest.CaptureFixture[str]) -> None:
    folder = usual(tmp_path / "e")
    assert command(folder, server, "--dry-run") == 0
    assert not server.bodies
    assert "http:judge-1: 24 questions; 24 calls, about " in capsys.readouterr().out
    assert command(folder, server) == 0
    assert scores(folder) == RIGHT
    out = capsys.readouterr().out
    assert "http:judge-1: 24 questions (0 judged before), 24 verdicts (2 ties)" in out
    assert "the answer shown first wins 50.0 %" in out
    assert "1 answers of org/a are empty, and are judged as such" in out
    assert command(folder, server) == 0
    assert server.served == 24
    assert "(24 judged before)" in capsys.readouterr().out
    assert read_judges(folder)["http:judge-1"]["identity"]["endpoint"] == server.url


def test_repeats_one_order_and_itself(
    tmp_path: Path, server: JudgingServer, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = usual(tmp_path / "e")
    assert command(folder, server, "repeats=2", "one_order=true", "items=3") == 0
    assert server.served == 6
    assert "asked again it says the same in 100.0 %" in capsys.readouterr().out
    assert command(folder, server, "itself=true", "models=org/a", "items=3") == 0
    selves = [v for v in read_verdicts(folder) if v.models == ("org/a", "org/a")]
    assert [v.score for v in selves] == [0.5] * 6


@pytest.mark.parametrize(
    ("instructions", "score"),
    [("pairwise-levels", 0.0), ("reference", 0.0), ("graded", 1.0), ("graded-reference", 1.0)],
)
def test_other_instructions(tmp_path: Path, server: JudgingServer, instructions: str, score: float) -> None:
    folder = usual(tmp_path / "e")
    assert command(folder, server, f"instructions={instructions}", "items=2") == 0
    found = read_verdicts(folder)
    assert len(found) == 4
    assert found[0].score == score  # of an empty answer, alone or against five characters
    assert found[0].strong == (instructions == "pairwise-levels")
    assert found[0].judge == f"http:judge-1 ({instructions})"


def test_a_rubric_and_items_that_lack_a_reference(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = usual(tmp_path / "e")
    append_items(folder, [Item(id="bare", prompt="?")])
    append_answers(folder, [Answer(item="bare", model=f"org/{m}", text="x") for m in "ab"])
    (tmp_path / "rubric.txt").write_text("It is polite.")
    with serving(say=lambda prompt: '{"reason": "fine", "scores": {"polite": 4, "short": 5}}') as server:
        assert command(folder, server, "instructions=rubric", f"rubric={tmp_path / 'rubric.txt'}", "items=1") == 0
        assert "It is polite." in server.bodies[0]["messages"][1]["content"]
    assert {v.score for v in read_verdicts(folder)} == {4.5}
    with serving() as server:
        assert command(folder, server, "instructions=graded-reference", "name=by reference") == 0
        assert "2 without a verdict: item 'bare': has no reference" in capsys.readouterr().out
        assert command(folder, server, "instructions=rubric", "name=bare") == 2
        assert "has no rubric, which instructions rubric need (rubric=FILE" in capsys.readouterr().err


def test_unequal_coverage_and_duplicate_prompts(tmp_path: Path, server: JudgingServer) -> None:
    folder = tmp_path / "e"
    append_items(folder, [Item(id=f"q{i}", prompt="The same?") for i in range(4)])
    append_answers(folder, [Answer(item=f"q{i}", model="a", text="same") for i in range(4)])
    append_answers(folder, [Answer(item=f"q{i}", model="b", text="other") for i in range(3)])
    append_answers(folder, [Answer(item="strange", model="b", text="other")])
    told: list[str] = []
    (found,) = judge(folder, JudgeSpec(judge="http:judge-1", base_url=server.url), tell=told.append)
    assert found.gaps == [
        "1 answers of b are to items that " + str(folder) + " does not have", "1 of 4 items have no answer of b"
    ]  # fmt: skip
    assert len(found.verdicts) == 6  # each item has its own
    assert server.served == 2  # and the same prompt is asked once in each order


def test_all_ties_and_a_baseline(tmp_path: Path) -> None:
    folder = evaluation(tmp_path / "e", a=["xx"] * 3, b=["yy"] * 3, c=["zz"] * 3)
    (found,) = judge(folder, JudgeSpec(judge="rule:longer"), Judging(baseline="org/c"))
    assert {v.models for v in found.verdicts} == {("org/a", "org/c"), ("org/b", "org/c")}
    assert {v.score for v in found.verdicts} == {0.5}
    (all_pairs,) = judge(folder, JudgeSpec(judge="rule:longer"))
    assert len(all_pairs.verdicts) == 18
    assert all_pairs.new == 6


def test_what_there_is_nothing_to_judge_in(tmp_path: Path) -> None:
    spec = JudgeSpec(judge="rule:longer")
    with pytest.raises(UserError, match="has no items"):
        judge(tmp_path, spec)
    append_items(tmp_path, [Item(id="q", prompt="?"), Item(id="r", prompt="?")])
    with pytest.raises(UserError, match="has no answers to its items"):
        judge(tmp_path, spec)
    append_answers(tmp_path, [Answer(item="q", model="a", text="x")])
    with pytest.raises(UserError, match="there are answers of a alone"):
        judge(tmp_path, spec)
    graded = JudgeSpec(judge="rule:longer", instructions="graded")
    assert [v.score for v in judge(tmp_path, graded)[0].verdicts] == [1.0]
    with pytest.raises(UserError, match="no answers of 'x'; there are a"):
        judge(tmp_path, spec, Judging(baseline="x"))
    append_answers(tmp_path, [Answer(item="r", model="b", text="x")])
    with pytest.raises(UserError, match="no item has an answer of both"):
        judge(tmp_path, JudgeSpec(judge="rule:shorter"))


def test_a_panel_keeps_all_its_judges_verdicts(tmp_path: Path, server: JudgingServer) -> None:
    folder = usual(tmp_path / "e")
    human = [{"item": f"q{i}", "models": ["org/b", "org/a"], "winner": "org/b"} for i in range(3)]
    (tmp_path / "human.jsonl").write_text("".join(json.dumps(row) + "\n" for row in human))
    (tmp_path / "panel.yaml").write_text(
        f"judges:\n- rule:longer\n- {{judge: 'http:judge-1', base_url: '{server.url}'}}\n"
        f"- recorded:{tmp_path}/human.jsonl\nquorum: 3\n"
    )
    assert main(["judge", str(folder), "--judge", str(tmp_path / "panel.yaml")]) == 0
    found: dict[str, list[Verdict]] = {}
    for verdict in read_verdicts(folder):
        found.setdefault(verdict.judge, []).append(verdict)
    assert {name: len(said) for name, said in found.items()} == {
        "rule:longer": 24, "http:judge-1": 24, "recorded:human": 24, "panel": 24
    }  # fmt: skip
    known = [v for v in found["panel"] if v.score is not None]
    assert {v.item for v in known} == {"q0", "q1", "q2"}
    assert {v.score for v in known} == {0.0}
    assert {v.why for v in found["panel"] if v.score is None} == {
        "2 of 3 judges have a verdict, 3 are needed (recorded:human: is not recorded in human.jsonl)"
    }


@pytest.mark.parametrize(
    ("words", "finding"),
    [
        (["repeats=0"], "repeats: found 0; expected 1 or more"),
        (["repeat=2"], "repeat: no such setting. Did you mean repeats?"),
        (["max_new_tokens=9"], "max_new_tokens: no such setting. Here it is max_tokens."),
        (["repeats"], "repeats: expected KEY=VALUE"),
        (["repeats=2", "repeats=3"], "repeats: is given twice"),
        (["rubric=no-such.txt"], "rubric=no-such.txt: cannot be read"),
        (["one_order=1"], "one_order: found 1; expected true or false"),
        (["max_calls=0"], "max_calls: found 0; expected 1 or more"),
        (["temperature=1"], "temperature has no effect on a judge of kind rule"),
    ],
)
def test_settings_that_are_refused(
    tmp_path: Path, words: list[str], finding: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["judge", str(usual(tmp_path / "e")), "--judge", "rule:longer", *words]) == 2
    assert finding in capsys.readouterr().err


def test_several_judges_share_what_they_have(
    tmp_path: Path, server: JudgingServer, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = usual(tmp_path / "e")
    both = ["judge", str(folder), "--judge", "rule:longer", "--judge", "http:judge-1", "--base-url", server.url]
    assert main([*both, "max_tokens=77"]) == 0
    assert {body["max_tokens"] for body in server.bodies} == {77}
    assert {v.judge for v in read_verdicts(folder)} == {"rule:longer", "http:judge-1"}
    assert main([*both, "scale=2.0"]) == 2
    assert "scale: has no effect on any of rule:longer, http:judge-1" in capsys.readouterr().err
    assert main([*both, "name=x"]) == 2


def test_no_judge_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["judge", str(tmp_path)]) == 2
    assert "no judge is named; add --judge: recorded:FILE" in capsys.readouterr().err

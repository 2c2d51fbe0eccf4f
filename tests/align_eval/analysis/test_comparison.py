"""Two models of an evaluation: verdicts and scores, what is missing, the one number; and two runs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from judged import both_orders, folder_of, run_of, verdict, world

import align_eval
from align.errors import UserError
from align_eval.analysis.comparison import compare, net
from align_eval.analysis.evaluation import Evaluation
from align_eval.analysis.missing import missing_scores
from align_eval.analysis.scores import columns, scored
from align_eval.records import Answer, Score
from align_eval.results.reading import read
from align_eval.statistics.estimate import Estimate


def scores(model: str, values: list[float | None], metric: str = "sums:accuracy", sample: int = 0) -> list[Score]:
    return [
        Score(item=f"p{i}", model=model, metric=metric, score=v, sample=sample, why="" if v is not None else "timeout")
        for i, v in enumerate(values)
    ]


def test_after_is_set_against_before():
    said = world({"old": 0.0, "new": 1.0}, 200)
    found = compare("old", "new", Evaluation(verdicts=said))
    (row,) = found.pairs
    assert (row.a, row.b) == ("new", "old")
    assert row.win_rate.value == pytest.approx(1 / (1 + np.exp(-1)), abs=0.06)
    assert found.delta.value == pytest.approx(2 * (row.win_rate.value or 0) - 1)
    assert found.delta.low == pytest.approx(2 * (row.win_rate.low or 0) - 1)
    assert set(found.quantities) == {"delta", "win_rate"}
    assert found.models == ["old", "new"]
    other = compare("new", "old", Evaluation(verdicts=said))
    assert other.delta.value == pytest.approx(-(found.delta.value or 0))


def test_several_judges_each_have_their_row():
    said = [*world({"a": 0.0, "b": 0.0}, 10), verdict("i0", "a", "b", 1.0, judge="K")]
    found = compare("a", "b", Evaluation(verdicts=said))
    assert [row.judge for row in found.pairs] == ["J", "K"]
    assert "delta[K]" in found.quantities
    assert "delta" not in found.quantities
    with pytest.raises(UserError, match="more than one difference; name it: delta"):
        _ = found.delta
    assert compare("a", "b", Evaluation(verdicts=said), judge="K").delta.value == -1.0
    assert {row.kind for row in found.agreement} == {"agreement", "Cohen's kappa"}


def test_right_and_wrong_answers_are_paired():
    """Of 20 questions new has 5 right that old has not, and old 1 of new's: McNemar's exact p 14 / 64."""
    old, new = [1.0] * 7 + [0.0] * 13, [0.0] + [1.0] * 11 + [0.0] * 8
    found = compare("old", "new", Evaluation(scores=[*scores("old", list(old)), *scores("new", list(new))]))
    (row,) = found.differences
    assert (row.task, row.metric) == ("sums", "accuracy")
    assert row.difference.value == pytest.approx(0.2)
    assert row.difference.method == "Bonett-Price over pairs"
    assert row.tests["mcnemar"] == pytest.approx(14 / 64)
    assert found.delta == found.quantities["sums:accuracy"].estimate
    assert [r.estimate.value for r in found.scores] == [0.35, 0.55]


def test_what_one_of_them_lacks_is_left_out_and_told():
    rows = [*scores("old", [1.0, 0.0, None, 1.0]), *scores("new", [0.0, 1.0, 1.0])]
    found = compare("old", "new", Evaluation(scores=rows))
    assert found.differences[0].difference.n == 2
    assert found.warnings == ["sums accuracy: 2 prompts have a score of one of new and old; 2 are paired"]
    (failure,) = found.failures
    assert (failure.what, failure.model, failure.item, failure.count, failure.why) == (
        "sums: not scored", "old", "p2", 1, "timeout (p2)",
    )  # fmt: skip


def test_answers_that_nobody_judged_are_told():
    answers = [Answer(item=f"i{i}", model=m, text="x") for i in range(4) for m in "ab"][:-1]
    said = both_orders("i0", "a", "b", [1.0, 1.0])
    found = compare("a", "b", Evaluation(answers=answers, verdicts=said))
    assert "1 items have an answer of one of a and b; 3 have both" in found.warnings
    assert "judge J: 2 items with both answers have no verdict; they are in no number here" in found.warnings


def test_answers_that_could_not_be_made_are_listed(tmp_path: Path):
    answers = [Answer(item="p", model="a", text="x")]
    folder = folder_of(tmp_path / "e", both_orders("p", "a", "b", [1.0, 1.0]), (), answers)
    (folder / "missing").mkdir()
    rows = [{"item": i, "model": m, "sample": 0, "why": "timeout"} for i, m in (("p", "a"), ("p", "b"), ("q", "b"))]
    (folder / "missing" / "b.0.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = compare("a", "b", folder)
    assert [(f.what, f.model, f.count, f.why) for f in found.failures] == [("answer", "b", 2, "timeout")]


def test_items_of_one_prompt_are_told(tmp_path: Path):
    folder = folder_of(tmp_path / "e", [verdict("p", "a", "b", 1.0), verdict("q", "a", "b", 1.0)])
    (folder / "items.jsonl").write_text('{"id": "p", "prompt": "Why?"}\n{"id": "q", "prompt": "Why?"}\n')
    (told,) = (w for w in compare("a", "b", folder).warnings if "share" in w)
    assert told == "2 items share 1 prompts; they count as independent, so intervals may be too narrow"


def test_what_could_not_be_read_counts_as_wrong_and_is_listed():
    unread = Score(item="p", model="a", metric="sums:accuracy", score=0.0, columns={"unparsed": "no number"})
    source = Evaluation(scores=[unread])
    assert scored(source)[0].estimate.value == 0.0
    (failure,) = missing_scores(source)
    assert (failure.what, failure.why) == ("sums: unparsed, counted as wrong", "no number (p)")


def test_several_samples_make_pass_at_k_and_majorities():
    rows = []
    for sample, (value, answer) in enumerate([(1.0, "4"), (0.0, "5"), (1.0, "4"), (0.0, None)]):
        for item, score, said in (("p", value, answer), ("q", 0.0, "1")):
            about = {"extracted": said}
            rows.append(Score(item=item, model="a", metric="t:right", score=score, sample=sample, columns=about))
    found = {c.metric: c.values for c in columns(Evaluation(scores=rows))}
    assert found["right"] == {"p": 0.5, "q": 0.0}
    assert found["right pass@2"]["p"] == pytest.approx(1 - 1 / 6)  # 5 of 6 pairs have a right one
    assert found["right pass^2"]["p"] == pytest.approx(1 / 6)
    assert found["right pass@4"] == {"p": 1.0, "q": 0.0}
    assert found["right maj@4"] == {"p": 1.0, "q": 0.0}
    # pairs of p: 4-5 half, 4-4 one, 4-none one, 5-4 half, 5-none 0, 4-none one
    assert found["right maj@2"]["p"] == pytest.approx((0.5 + 1 + 1 + 0.5 + 0 + 1) / 6)
    assert scored(Evaluation(scores=rows))[0].estimate.n == 8


def test_parts_of_prompts_weigh_alike():
    """Of p 1 of 1 and 0 of 1 followed, of q 1 of 4 and 3 of 4: 2/5 and 3/5, however the prompts' own shares are."""
    rows = [
        Score(item=i, model=m, metric="if:followed", score=f / n, columns={"followed": f, "of": n})
        for i, m, f, n in (("p", "old", 1, 1), ("p", "new", 0, 1), ("q", "old", 1, 4), ("q", "new", 3, 4))
    ]
    found = compare("old", "new", Evaluation(scores=rows))
    assert [r.estimate.value for r in found.scores] == pytest.approx([2 / 5, 3 / 5])
    assert found.scores[0].estimate.n == 5
    assert found.delta.value == pytest.approx(1 / 5)


def test_the_best_of_several_rewards():
    rows = [Score(item="p", model="a", metric="r", score=s, sample=k) for k, s in enumerate([0.2, 3.0, 1.0, 2.0])]
    found = {c.metric: c.values["p"] for c in columns(Evaluation(scores=rows))}
    assert found == pytest.approx({"r": 1.55, "r best@2": (3 * 3 + 2 * 2 + 1) / 6, "r best@4": 3.0})  # by hand


def test_rewards_that_are_no_shares_are_bootstrapped():
    random = np.random.default_rng(0)
    values = random.normal(size=40)
    rows = [*scores("a", list(values), "reward"), *scores("b", list(values + 1.0), "reward")]
    rows[0] = Score(item="p0", model="a", metric="reward", score=float(values[0]), columns={"unit": "points"})
    found = compare("a", "b", Evaluation(scores=rows))
    assert found.delta.value == pytest.approx(1.0)
    assert "all prompts have the same value" in found.delta.why
    assert found.scores[0].estimate.method.startswith("expanded percentile bootstrap")
    assert found.quantities["delta"].bounds is None


@pytest.mark.parametrize(
    ("names", "message"),
    [(("a", "a"), "compared with itself"), (("a", "bb"), "no model 'bb'; there are a, b.* Did you mean b"),
     (("a", "c"), "has neither verdicts on a against c nor scores of both")],
)  # fmt: skip
def test_mistakes_are_told(names: tuple[str, str], message: str):
    said = [verdict("p", "a", "b", 1.0), verdict("p", "b", "c", 1.0)]
    with pytest.raises(UserError, match=message):
        compare(*names, Evaluation(verdicts=said))


def test_all_verdicts_missing_is_no_tie():
    said = both_orders("p", "a", "b", [None, None])
    found = compare("a", "b", Evaluation(verdicts=said))
    assert found.delta.value is None
    assert found.delta.why == "nothing was measured"
    assert sum(f.count for f in found.failures) == 2


def test_a_net_rate_is_twice_the_win_rate_less_one():
    assert net(Estimate(value=0.75, low=0.5, high=1.0)) == Estimate(value=0.5, low=0.0, high=1.0)
    assert net(Estimate(value=None, why="x")).value is None


def test_two_runs_through_the_package(tmp_path: Path):
    before = run_of(tmp_path / "b", [0.0, 0.0, 1.0, 0.0] * 5)
    after = run_of(tmp_path / "a", [1.0, 0.0, 1.0, 1.0] * 5)
    found = align_eval.compare(before, after)
    assert isinstance(found, align_eval.Comparison)
    accuracy, loss = found.differences
    assert accuracy.difference.value == 0.5
    assert accuracy.tests["mcnemar"] == pytest.approx(2 / 1024)
    # 0 plus or minus 1.96 sqrt(2) 0.1
    assert loss.difference.high == pytest.approx(0.2772, abs=1e-4)
    assert loss.difference.method == "normal, not paired"
    assert found.warnings == ["loss: the runs do not hold values of the same rows; the difference is not paired"]
    assert set(found.quantities) == {"accuracy", "loss"}


def test_results_of_a_folder_are_read_back(tmp_path: Path):
    from align_eval.analysis.compare_command import run

    said = [*world({"org/a b": 0.0, "b": 0.5}, 12), verdict("i0", "org/a b", "b", None, repeat=1)]
    answers = [Answer(item=f"i{i}", model=m, text="x" * (i + len(m))) for i in range(12) for m in ("org/a b", "b")]
    folder = folder_of(tmp_path / "e", said, scores("b", [1.0, 0.0]), answers)
    lines = list(run("org/a b", "b", folder, "", (None, None)))
    assert lines[0] == "b against org/a b"
    results = read(folder)
    (row,) = results.sections.pairs
    assert (row.a, row.b, row.missing) == ("b", "org/a b", 1)
    assert row.lc_win_rate is not None
    assert results.manifest["seed"] == 0
    assert results.manifest["inputs"]["items.jsonl"]
    assert results.failures[0].why == "unreadable"
    assert list(run("org/a b", "b", folder, "", (None, None))) == lines  # to the last digit

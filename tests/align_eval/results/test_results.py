"""results.json and its tables: what is written can be read, and what is wrong is told with its place."""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from evaluations import MODELS, of, results

from align.errors import UserError
from align_eval.results.document import Pair, Results, Scored, Sections
from align_eval.results.reading import add, as_tree, parse, read, write
from align_eval.results.tables import as_csv, as_latex, as_markdown, tables
from align_eval.results.wording import p_value, rests_on, told, value_of
from align_eval.statistics.estimate import Estimate


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    path = write(tmp_path, results())
    assert read(tmp_path) == read(path) == results()
    assert json.loads(path.read_text())["schema"] == 1


def test_sections_without_rows_are_absent(tmp_path: Path) -> None:
    tree = json.loads(write(tmp_path, Results(title="empty")).read_text())
    assert tree["sections"] == {}
    assert read(tmp_path) == Results(title="empty")


def test_half_a_character_pair_in_a_name_is_no_obstacle(tmp_path: Path) -> None:
    write(tmp_path, Results(title="a\ud800b", models=[{"name": "x\udc80"}]))
    assert (read(tmp_path).title, read(tmp_path).models) == ("a?b", [{"name": "x?"}])


def wrong(change: Any) -> str:
    tree = json.loads(json.dumps(as_tree(results())))
    change(tree)
    with pytest.raises(UserError) as error:
        parse(tree, Path("results.json"))
    return str(error.value)


def row(tree: Any, name: str = "pairs") -> Any:
    return tree["sections"][name][0]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda t: t.update(schema=2), "schema: is 2, and this version of align-eval reads 1"),
        (lambda t: t.pop("schema"), "schema: is None"),
        (lambda t: t.pop("title"), "title: Field required"),
        (lambda t: t.update(tilte="x"), "the document: no such key: tilte; there are title,"),
        (lambda t: row(t)["win_rate"].update(hgih=1), r"sections\.pairs\.0\.win_rate: no such key: hgih"),
        (lambda t: row(t).update(missing="2"), r"sections\.pairs\.0\.missing: .*integer, found '2'"),
        (lambda t: row(t)["win_rate"].update(value="0.5"), r"pairs\.0\.win_rate\.value: .*number, found '0.5'"),
        (lambda t: row(t)["win_rate"].update(value=None), r"pairs\.0\.win_rate: has no value and no `why`"),
        (lambda t: row(t)["win_rate"].update(high=None), r"pairs\.0\.win_rate: has one end of an interval"),
        (lambda t: row(t)["win_rate"].update(low=0.9), r"ends before it begins: 0\.9 to"),
        (lambda t: row(t)["win_rate"].update(method=""), "has an interval and no method"),
        (lambda t: row(t)["win_rate"].update(level=95.0), r"level is 95\.0, expected a share"),
        (lambda t: row(t).update(a="nobody"), r"sections\.pairs\.0: nobody is not among models"),
        (lambda t: t["sections"]["pairs"].append(row(t)), r"sections\.pairs\.9: a second row of org/base"),
        (lambda t: row(t).update(wins=float("inf")), r"sections\.pairs\.0\.wins: .*found inf|wins: is inf"),
        (lambda t: t["models"].append({"size": 1}), r"models\.3: has no name"),
        (lambda t: t["sections"].update(pears=[]), "sections: no such key: pears"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(change: Any, says: str) -> None:
    assert re.search(says, wrong(change))


def test_writing_what_is_wrong_is_our_own_mistake(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="nobody is not among models"):
        write(tmp_path, replace(results(), sections=Sections(scores=[
            Scored(model="nobody", task="t", metric="m", estimate=of(0.5))])))  # fmt: skip
    assert not (tmp_path / "results.json").exists()


@pytest.mark.parametrize(
    ("text", "says"), [("{", "no valid JSON"), ('{"schema": NaN}', "NaN is no number"), ("[]", "schema: is None")]
)
def test_a_file_that_is_none(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "results.json").write_text(text)
    with pytest.raises(UserError, match=says):
        read(tmp_path)


def test_a_folder_without_results_says_who_writes_them(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="`align-eval compare` and `leaderboard` write it"):
        read(tmp_path)


def test_added_rows_replace_those_of_their_key_and_leave_the_others(tmp_path: Path) -> None:
    write(tmp_path, results())
    pair = Pair(a=MODELS[0], b=MODELS[1], judge="judge <b>", wins=1, ties=0, losses=0, win_rate=of(0.9))
    new = replace(results(), sections=Sections(pairs=[pair]), warnings=["another"])
    add(tmp_path, new)
    found = read(tmp_path)
    assert found.sections.pairs[0] == pair
    kept = [replace(row, adjusted={}) for row in results().sections.pairs[1:]]  # a permutation test has no p-value here
    assert found.sections.pairs[1:] == kept
    assert found.sections.leaderboard == results().sections.leaderboard
    assert found.warnings == ["unequal coverage", "another"]


def test_two_models_stand_side_by_side_once_whichever_way_round_they_were_asked(tmp_path: Path) -> None:
    first = Pair(a="A", b="B", judge="j", wins=3, ties=1, losses=2, win_rate=replace(of(0.6), low=0.3, high=0.7))
    hard = replace(first, category="hard", lc_win_rate=of(0.55))
    models = [{"name": "A"}, {"name": "B"}]
    write(tmp_path, Results(title="t", models=models, sections=Sections(pairs=[first, hard])))
    turned = Pair(a="B", b="A", judge="j", wins=2, ties=1, losses=3, win_rate=of(0.4))
    add(tmp_path, Results(title="t", models=models, sections=Sections(pairs=[turned])))
    whole, part = read(tmp_path).sections.pairs
    assert whole == turned
    assert (part.a, part.b, part.category, part.wins, part.losses) == ("B", "A", "hard", 2, 3)
    assert (part.win_rate.low, part.win_rate.value, part.win_rate.high) == pytest.approx((0.3, 0.4, 0.7))
    assert part.lc_win_rate is not None
    assert part.lc_win_rate.value == pytest.approx(0.45)


def test_differences_and_agreement_stand_there_once_too(tmp_path: Path) -> None:
    write(tmp_path, results())
    (gap,), (agreed,) = results().sections.differences, results().sections.agreement
    back = replace(gap, a=gap.b, b=gap.a, difference=of(0.021, 0.013))
    heard = replace(agreed, a=agreed.b, b=agreed.a)
    add(tmp_path, replace(results(), sections=Sections(differences=[back], agreement=[heard])))
    assert read(tmp_path).sections.differences == [back]
    assert read(tmp_path).sections.agreement == [heard]


def test_rows_made_from_other_inputs_go_and_are_named(tmp_path: Path) -> None:
    write(tmp_path, results())
    new = replace(results(), sections=Sections(pairs=results().sections.pairs), manifest={"inputs": {"x": "1"}})
    add(tmp_path, new)
    found = read(tmp_path)
    assert not found.sections.leaderboard
    assert found.warnings[-1].endswith(
        "scores: 3 of leaderboard, 3 of scores, 1 of differences, 1 of judges, 1 of agreement, 3 of frontier"
    )
    assert not (tmp_path / "tables" / "leaderboard.csv").exists()
    assert (tmp_path / "tables" / "pairs.csv").exists()


# ---- tables ---------------------------------------------------------------------------------------------------------


def by_name(name: str) -> Any:
    return next(t for t in tables(results()) if t.name == name)


def test_csv_has_every_field_of_every_estimate() -> None:
    rows = list(csv.DictReader(io.StringIO(as_csv(by_name("scores")))))
    assert (rows[0]["estimate"], rows[0]["estimate_low"], rows[0]["estimate_n"]) == ("0.4", str(0.4 - 0.1), "40")
    assert rows[0]["estimate_method"] == "Wilson"
    assert (rows[2]["estimate"], rows[2]["estimate_why"]) == ("", "no verdicts")
    pairs = list(csv.DictReader(io.StringIO(as_csv(by_name("pairs")))))
    assert (pairs[0]["tests_sign"], pairs[0]["tests_permutation"]) == ("1e-05", "")


def test_a_spreadsheet_calculates_no_name(tmp_path: Path) -> None:
    table = tables(replace(results(), sections=Sections(scores=[
        Scored(model="=2+2", task="@x", metric="m", estimate=of(0.5))])))[0]  # fmt: skip
    assert as_csv(table).splitlines()[1].startswith("'=2+2,'@x,m,0.5,")


def test_markdown_and_latex_say_number_interval_n_and_method() -> None:
    markdown, latex = as_markdown(by_name("scores")), as_latex(by_name("scores"))
    assert "| org/base | gsm8k | exact |  | 40.0 % \\[30.0, 50.0\\] (n 40, 20 clusters) |" in markdown
    assert "missing: no verdicts" in markdown
    assert "- estimate: 95 % interval: Wilson" in markdown
    assert r"org/base & gsm8k & exact &  & 40.0 \% [30.0, 50.0] (n 40, 20 clusters) \\" in latex
    assert r"% estimate: 95 \% interval: Wilson" in latex


def test_names_cannot_break_a_table() -> None:
    assert r"a\|b\_c%=1" in as_markdown(by_name("leaderboard"))
    assert r"a|b\_c\%=1" in as_latex(by_name("leaderboard"))
    assert all(line.count(" & ") == 6 for line in as_latex(by_name("leaderboard")).splitlines() if " & " in line)


# ---- words ----------------------------------------------------------------------------------------------------------


def test_as_many_digits_as_the_interval_bears() -> None:
    assert told(of(0.6312, 0.0612)) == "63.1 % [57.0, 69.2]"
    assert told(of(0.6312, 0.00612)) == "63.12 % [62.51, 63.73]"
    assert told(of(1103.4, 24, "Elo")) == "1,103 Elo [1,079, 1,127]"
    assert told(of(-0.021, 0.013), signed=True) == "\N{MINUS SIGN}2.1 points [\N{MINUS SIGN}3.4, \N{MINUS SIGN}0.8]"
    assert told(of(-0.00001, 0.2), signed=True).startswith("0.0 points")
    assert value_of(of(0.25)) == "25.0 %"


def test_what_is_missing_is_missing() -> None:
    assert told(None) == "missing"
    assert told(of(None)) == "missing: no verdicts"
    assert told(Estimate(value=0.5, n=1, unit="share", why="one prompt")) == "50.0 % (no interval: one prompt)"
    assert rests_on(of(None)) == ""


@pytest.mark.parametrize(
    ("value", "words"), [(None, "missing"), (0.00003, "< 0.0001"), (0.0042, "0.0042"), (0.31, "0.310")]
)
def test_p_values(value: float | None, words: str) -> None:
    assert p_value(value) == words

"""Published and recorded numbers of real judgments, made again by the commands from files of their authors' kinds."""

from __future__ import annotations

import json
import statistics
from pathlib import Path

import pytest
import recorded

from align_eval.cli import main
from align_eval.page.write import report as write_page
from align_eval.results.document import Results
from align_eval.results.reading import read

VICUNA = {  # wins, ties, losses of the first: counted by hand's means, the grades of each review compared
    ("llama-13b", "alpaca-13b"): (19, 1, 60),
    ("alpaca-13b", "vicuna-13b"): (3, 1, 76),
    ("bard", "vicuna-13b"): (30, 10, 40),
    ("gpt35", "vicuna-13b"): (44, 22, 14),
    ("llama-13b", "vicuna-13b"): (3, 0, 77),
    ("alpaca-13b", "vicuna-13b-20230322-new-hp-fp16"): (4, 0, 76),
    ("bard", "vicuna-13b-20230322-new-hp-fp16"): (28, 13, 39),
    ("gpt35", "vicuna-13b-20230322-new-hp-fp16"): (42, 16, 22),
    ("llama-13b", "vicuna-13b-20230322-new-hp-fp16"): (5, 0, 75),
    ("alpaca-13b", "vicuna-7b-20230322-fp16"): (4, 5, 71),
    ("bard", "vicuna-7b-20230322-fp16"): (39, 14, 27),
    ("gpt35", "vicuna-7b-20230322-fp16"): (52, 16, 12),
    ("llama-13b", "vicuna-7b-20230322-fp16"): (4, 2, 74),
}
MT_BENCH = {"gpt-3.5-turbo-0301": 8.109375, "meta-llama--Llama-2-70b-chat-hf": 7.1, "lmsys--vicuna-33b-v1.3": 6.965625}


def run(*arguments: object) -> None:
    assert main([str(a) for a in arguments]) == 0


def found(folder: Path, form: str, files: Path | list[Path], *command: str) -> Results:
    """What a command writes about an imported folder."""
    evaluation = folder / "evaluation"
    run("import", form, *(files if isinstance(files, list) else [files]), "--into", evaluation)
    run(*command, *(["-e"] if command[0] == "compare" else []), evaluation)
    return read(evaluation)


def test_means_of_arena_bench_and_its_39_missing_grades(tmp_path: Path) -> None:
    results = found(tmp_path, "arena_hard", recorded.arena_bench(tmp_path), "leaderboard")
    grades = recorded.data("arena_bench")
    rows = {row.model: row.estimate for row in results.sections.scores}
    assert rows.keys() == grades.keys()
    for model, scores in grades.items():
        known = [score for score in scores if score is not None]
        assert rows[model].value == pytest.approx(statistics.fmean(known), abs=1e-12)
        assert rows[model].n == len(known)
    assert sum(failure.count for failure in results.failures) == 39
    assert sum(len(scores) for scores in grades.values()) - sum(e.n for e in rows.values()) == 39
    best, second, *_ = results.sections.leaderboard
    assert (best.model, second.model, best.tied_with) == ("gpt-4-1106-preview", "gpt-4-0314", [])
    assert results.sections.leaderboard[-1].model == "llama-13b"


def test_means_of_mt_bench_are_over_160_verdicts_in_80_clusters(tmp_path: Path) -> None:
    results = found(tmp_path, "mt_bench", recorded.mt_bench(tmp_path), "leaderboard")
    rows = {row.model: row.estimate for row in results.sections.scores if not row.category}
    for model, scores in recorded.data("mt_bench")["scores"].items():
        assert rows[model].value == pytest.approx(statistics.fmean(s for both in scores for s in both), abs=1e-12)
        assert rows[model].clusters == 80
    assert {model: rows[model].value for model in MT_BENCH} == pytest.approx(MT_BENCH)
    assert len({row.category for row in results.sections.scores}) == 1 + 8


def test_win_table_of_vicuna(tmp_path: Path) -> None:
    results = found(tmp_path, "rows", recorded.vicuna_pairs(tmp_path), "leaderboard")
    rows = {(row.a, row.b): (row.wins, row.ties, row.losses) for row in results.sections.pairs if not row.category}
    assert len(rows) == len(VICUNA)
    for (a, b), counts in VICUNA.items():
        assert rows.get((a, b)) == counts or rows[b, a] == counts[::-1]
    assert [row.model for row in results.sections.leaderboard][:1] == ["gpt35"]


def test_people_of_pandalm_agree(tmp_path: Path) -> None:
    path = recorded.pandalm(tmp_path)
    people = [line for line in path.read_text().splitlines() if '"human-' in line]
    path.write_text("\n".join(people))
    results = found(tmp_path, "alpaca_eval", path, "leaderboard", "--judge", "human-1")
    rows = {(row.a, row.b, row.kind): row.estimate for row in results.sections.agreement}
    kappas = [rows[f"human-{i}", f"human-{j}", "Cohen's kappa"].value for i, j in ((1, 2), (2, 3), (1, 3))]
    assert kappas == pytest.approx([0.852, 0.862, 0.879], abs=5e-4)
    assert rows["human-1, human-2, human-3", "", "Fleiss' kappa"].value == pytest.approx(0.864, abs=5e-4)
    assert {row.first_wins and row.first_wins.value for row in results.sections.judges} == {None}  # no order is known


def test_judges_of_pandalm_agree_with_the_majority(tmp_path: Path) -> None:
    results = found(tmp_path, "alpaca_eval", recorded.pandalm(tmp_path), "leaderboard", "--judge", "people")
    rows = {(row.a, row.b, row.kind): row.estimate for row in results.sections.agreement}
    small, chat = rows["pandalm-7b", "people", "agreement"], rows["gpt-3.5-turbo", "people", "agreement"]
    assert (small.value, small.n) == (pytest.approx(0.668, abs=5e-4), 999)
    # Published as 69.8 %: of all 999, the 25 that could not be read counting as disagreement.
    assert chat.n == 974
    assert chat.value is not None
    assert round(chat.value * 974) / 999 == pytest.approx(0.698, abs=5e-4)
    assert {row.judge: row.missing for row in results.sections.judges if row.missing} == {"gpt-3.5-turbo": 25}


def test_positions_of_llmbar(tmp_path: Path) -> None:
    results = found(tmp_path, "rows", recorded.llmbar(tmp_path), "compare", "output_2", "output_1")
    rows = {row.judge: row for row in results.sections.judges}
    for judge, first, orders in (("ChatGPT/Vanilla", 0.647, 0.659), ("GPT-4/Vanilla", 0.512, 0.928)):
        assert rows[judge].n == 838
        assert getattr(rows[judge].first_wins, "value", None) == pytest.approx(first, abs=5e-4)
        assert getattr(rows[judge].order_agreement, "value", None) == pytest.approx(orders, abs=5e-4)


def test_positions_of_llmbar_by_recorded_judges(tmp_path: Path) -> None:
    """The same by the command that asks judges, from answers: nothing but items and answers is imported."""
    items, verdicts, _ = recorded.llmbar(tmp_path)
    said = [json.loads(line) for line in verdicts.read_text().splitlines()]
    models = ("output_1", "output_2")
    answers = [{"item": f"i{i}", "model": m, "text": m} for i in range(419) for m in models]
    evaluation = tmp_path / "evaluation"
    run("import", "rows", items, recorded.lines(tmp_path / "answers.jsonl", answers), "--into", evaluation)
    for judge in ("ChatGPT", "GPT-4"):
        rows = [{k: v for k, v in row.items() if k != "judge"} for row in said if row["judge"].startswith(judge)]
        run("judge", evaluation, "--judge", f"recorded:{recorded.lines(tmp_path / f'{judge}.jsonl', rows)}")
    run("compare", *models, "-e", evaluation)
    found = {row.judge: row for row in read(evaluation).sections.judges}
    for judge, first, orders in (("ChatGPT", 0.647, 0.659), ("GPT-4", 0.512, 0.928)):
        row = found[f"recorded:{judge}"]
        assert (row.n, row.missing) == (838, 0)
        assert getattr(row.first_wins, "value", None) == pytest.approx(first, abs=5e-4)
        assert getattr(row.order_agreement, "value", None) == pytest.approx(orders, abs=5e-4)
    page = write_page(evaluation).read_text(encoding="utf-8")
    assert "64.7 % [" in page
    assert "92.8 % [" in page

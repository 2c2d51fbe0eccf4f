"""Right answers score 100 %, through the real command: of every task that knows its right answers, all rows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from align_eval.cli import main
from align_eval.results.reading import read
from align_eval.scorers.ifeval.check import followed
from align_eval.tasks.items import items_of
from align_eval.tasks.task import load, task_names

ROWS = {  # as their authors count them; of mmlu 50 of each of 57 subjects; one pair of polite is twice the same text
    "aqua": 254, "bbh": 6511, "gsm8k": 1319, "hhh": 221, "math500": 500, "mmlu": 2850, "polite": 109, "svamp": 1000,
    "truthfulqa": 817,
}  # fmt: skip


def test_every_task_has_its_rows_counted_here():
    assert set(task_names()) == {*ROWS, "humaneval", "ifeval"}


@pytest.mark.parametrize("name", ROWS)
def test_gold_answers_are_all_right(name: str, tmp_path: Path):
    assert main(["run", name, "--model", "gold", "--out", str(tmp_path)]) == 0
    rows = {r.metric: r.estimate for r in read(tmp_path).sections.scores if not r.category}
    task = load(name)
    headline = rows[task.headline]
    assert (headline.value, headline.n, headline.method) == (1.0, ROWS[name], "Wilson")
    assert headline.high == pytest.approx(1.0)
    assert headline.low == pytest.approx(1 / (1 + 1.959964**2 / ROWS[name]))  # Wilson at 1: n / (n + z^2)
    for how in task.extract:
        assert rows[f"accuracy_{how}"].value == 1.0
        assert rows[f"unparsed_{how}"].value == 0.0


def test_solutions_of_humaneval_all_pass(tmp_path: Path):
    """164 programs, each in a process of its own."""
    assert main(["run", "humaneval", "--model", "gold", "--out", str(tmp_path)]) == 0
    rows = {r.metric: r.estimate for r in read(tmp_path).sections.scores if not r.category}
    assert (rows["pass@1"].value, rows["pass@1"].n) == (1.0, 164)
    assert "pass@10" not in rows  # of one sample each


def test_a_wrong_an_unparsable_and_a_missing_answer_are_told_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Of four items one is right (in another form), one wrong, one has no number in it, one is not answered."""
    texts = {0: "So it is #### 18.", 1: "#### 4", 2: "I cannot say."}
    file = tmp_path / "mine.jsonl"
    file.write_text("".join(json.dumps({"item": str(i), "text": text}) + "\n" for i, text in texts.items()))
    rows = tmp_path / "four.yaml"
    whole = load("gsm8k")
    first = [json.loads(line) for line in _lines(whole.rows_file)][:4]
    (tmp_path / "four.jsonl").write_text("".join(json.dumps(row) + "\n" for row in first))
    rows.write_text(Path(whole.file).read_text().replace("gsm8k.jsonl.gz", "four.jsonl"))
    assert main(["run", str(rows), "--model", str(file), "--out", str(tmp_path / "out")]) == 0
    found = read(tmp_path / "out")
    told = {r.metric: r.estimate for r in found.sections.scores}
    assert (told["accuracy_flexible"].value, told["accuracy_flexible"].n) == (pytest.approx(1 / 3), 3)
    assert told["unparsed_flexible"].value == pytest.approx(1 / 3)
    assert told["accuracy_flexible_of_parsed"].value == 0.5
    reasons = {(f.what, f.count): f.why for f in found.failures}
    assert "mine.jsonl has no answer to it (gsm8k/3)" in reasons["gsm8k: not scored", 1]
    assert "gsm8k/2" in reasons["gsm8k: unparsed, counted as wrong", 1]
    assert "I cannot say." in capsys.readouterr().out


def _lines(path: Path) -> list[str]:
    import gzip

    return gzip.decompress(path.read_bytes()).decode().splitlines()


def test_ifeval_by_prompt_and_by_instruction(tmp_path: Path):
    """Only `ok` is written: what forbids is followed, what demands is not; both ways of counting are told."""
    items = items_of(load("ifeval"))
    file = tmp_path / "ok.jsonl"
    file.write_text("".join(json.dumps({"item": item.id, "text": "ok"}) + "\n" for item in items))
    assert main(["run", "ifeval", "--model", str(file), "--out", str(tmp_path / "out")]) == 0
    rows = {r.metric: r.estimate for r in read(tmp_path / "out").sections.scores if not r.category}
    counts = [followed(item, "ok")["strict"] for item in items]
    assert rows["prompt_strict"].value == pytest.approx(sum(map(all, counts)) / 541)
    assert rows["instructions_strict"].value == pytest.approx(sum(sum(c) / len(c) for c in counts) / 541)
    pooled = rows["instruction_strict"]
    assert (pooled.value, pooled.n, pooled.clusters) == (pytest.approx(sum(map(sum, counts)) / 834), 834, 541)

"""`align-eval generate` from the words of a command to its exit code."""

from __future__ import annotations

from pathlib import Path

import pytest

from align.runfolder.lock import Lock
from align_eval.analysis.evaluation import evaluation_of
from align_eval.cli import main

ITEM = '{"id": "a", "prompt": "a"}\n'


def test_a_file_without_prompts_is_a_mistake(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prompts = tmp_path / "mine.jsonl"
    prompts.touch()
    out = tmp_path / "e"
    assert main(["generate", str(prompts), "--model", "asset:stories260k", "--out", str(out)]) == 2
    assert "mine.jsonl: has no rows" in " ".join(capsys.readouterr().err.split())


def test_one_process_at_a_time_writes_answers_into_a_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A second one would ask, and pay, for the same answers."""
    for name, row in (("mine", '{"id": "a", "prompt": "a"}'), ("answers", '{"item": "a", "text": "b"}')):
        (tmp_path / f"{name}.jsonl").write_text(row + "\r\n", encoding="utf-8-sig")  # as editors of Windows do
    out = tmp_path / "e"
    words = ["generate", str(tmp_path / "mine.jsonl"), "--model", str(tmp_path / "answers.jsonl"), "--out", str(out)]
    out.mkdir()
    held = Lock(out / ".answers.lock")
    held.take()
    try:
        assert main(words) == 2
    finally:
        held.release()
    told = f"{out}: in use by another process that writes answers: process "
    assert told in (said := " ".join(capsys.readouterr().err.split()))
    assert said.endswith("Wait for it, stop it, or choose another --out")
    assert not (out / "answers").exists()
    assert main(words) == 0


@pytest.mark.parametrize(
    ("rows", "answers", "told"),
    [
        ('{"prompt": "a"}\n{"prompt": ""}\n', "", "mine.jsonl: row 2: prompt is empty"),
        ('{"text": "a"}\n', "", "row 1: expected one of prompt, messages, instruction, question; it has text"),
        ('{"id": "a", "prompt": "a"}\n', '{"item": "a", "text": null}\n', "row 1: text: found None; expected a text"),
        (ITEM, '{"item": "a", "text": "b", "sample": "x"}\n', "row 1: sample: found 'x'; expected a whole number"),
        (ITEM, '{"item": "a", "text": "b", "sample": -1}\n', "row 1: sample: found -1; expected 0 or more"),
        (ITEM, '{"item": "a", "text": "b", "num_tokens": 1.5}\n', "num_tokens: found 1.5; expected a whole number"),
        (ITEM, '{"item": "a", "text": "b", "columns": [1]}\n', "row 1: columns: found [1]; expected an object"),
    ],
)
def test_rows_that_cannot_be(
    rows: str, answers: str, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.jsonl").write_text(rows)
    (tmp_path / "answers.jsonl").write_text(answers)
    model = str(tmp_path / "answers.jsonl") if answers else "gold"
    assert main(["generate", str(tmp_path / "mine.jsonl"), "--model", model, "--out", str(tmp_path / "e")]) == 2
    assert told in capsys.readouterr().err
    assert not (tmp_path / "e" / "answers").exists()


def test_a_file_is_no_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (rows := tmp_path / "mine.jsonl").write_text(ITEM)
    assert main(["generate", str(rows), "--model", "gold", "--out", str(rows)]) == 2
    assert f"--out {rows}: cannot be written: Not a directory" in capsys.readouterr().err
    (answers := tmp_path / "answers.jsonl").write_text('{"item": "a", "model": "m", "text": "b"}\n')
    assert main(["import", "rows", str(answers), "--into", str(rows)]) == 2
    assert f"--into {rows}: cannot be written: Not a directory" in capsys.readouterr().err
    assert rows.read_text() == ITEM


def test_models_that_may_not_write_as_much_are_told_then_and_whenever_they_are_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As a base model has its task's length and a run its own: the longer answers would look like the better model."""
    (tmp_path / "mine.jsonl").write_text('{"id": "a", "prompt": "Once"}\n')
    (tmp_path / "known.jsonl").write_text('{"item": "a", "text": "b"}\n')
    common = [str(tmp_path / "mine.jsonl"), "--out", str(tmp_path / "e")]
    for model, length in ((f"known={tmp_path / 'known.jsonl'}", 9), ("before=asset:stories260k", 2)):
        assert main(["generate", *common, "--model", model, f"max_completion_length={length}"]) == 0
    assert "warning" not in capsys.readouterr().err  # what is only read has no length of writing
    after = ["--model", "after=asset:stories260k", "max_completion_length=4", "temperature=0"]
    assert main(["generate", *common, *after]) == 0
    told = "mine: the models did not write alike: max_completion_length is 4 for after, 2 for before"
    assert told in " ".join(capsys.readouterr().err.split())
    assert [told in warning for warning in evaluation_of(tmp_path / "e").warnings].count(True) == 1

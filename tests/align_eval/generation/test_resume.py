"""Answers of real, tiny models: the same after a kill, never mixed, as training writes them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from align.assets import asset
from align.errors import UserError
from align_eval.cli import main
from align_eval.generation.answers import Batch, generate
from align_eval.generation.models import model_of
from align_eval.generation.settings import settings_of
from align_eval.records import Answer
from align_eval.store import read_answers
from align_eval.tasks.files import task_of
from align_eval.tasks.items import items_of

OPENINGS = str(asset("asset:story_openings/test.jsonl"))
WORDS = ["limit=40", "max_completion_length=24", "temperature=1.0", "num_samples=2", "max_rows=8", "seed=5"]
COMMAND = ["generate", OPENINGS, "--model", "asset:stories260k", *WORDS]


def key(answer: Answer) -> tuple[str, int]:
    return answer.item, answer.sample


def texts(folder: Path) -> dict[tuple[str, int], str]:
    found: list[str] = []
    answers = read_answers(folder, found.append)
    assert not [note for note in found if "more than once" in note]
    return {key(a): a.text for a in answers}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    assert main([*COMMAND, "--out", str(folder)]) == 0
    return folder


def test_a_kill_in_the_middle_changes_nothing(whole: Path, tmp_path: Path):
    command = [sys.executable, "-m", "align_eval", *COMMAND, "--out", str(tmp_path)]
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=dict(os.environ))
    limit = time.monotonic() + 100
    while len(_lines(tmp_path)) < 16 and child.poll() is None and time.monotonic() < limit:
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    child.wait()
    before = _lines(tmp_path)
    assert 16 <= len(before) < 80, "it was killed too late or never began"
    with next((tmp_path / "answers").glob("*.jsonl")).open("a") as file:
        file.write('{"item": "torn')  # as a kill in the middle of writing leaves it
    assert main([*COMMAND, "--out", str(tmp_path)]) == 0
    assert texts(tmp_path) == texts(whole)
    kept = {json.dumps(row, sort_keys=True) for row in before}
    assert kept <= {json.dumps(row, sort_keys=True) for row in _lines(tmp_path)}


def _lines(folder: Path) -> list[dict[str, object]]:
    found: list[dict[str, object]] = []
    for path in (folder / "answers").glob("*.jsonl"):
        for line in path.read_text().split("\n"):
            try:
                found.append(json.loads(line))
            except ValueError:
                continue
    return found


def test_what_is_there_is_not_made_again(whole: Path, capsys: pytest.CaptureFixture[str]):
    before = {p: p.stat().st_mtime_ns for p in (whole / "answers").iterdir()}
    assert main([*COMMAND, "--out", str(whole)]) == 0
    assert "80 answers of stories260k" in (said := capsys.readouterr().out)
    assert "0 made now" in said
    assert before == {p: p.stat().st_mtime_ns for p in (whole / "answers").iterdir()}


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("temperature=1.0", "temperature=0.5", "test.decoding.temperature: was 1.0, now 0.5"),
        ("seed=5", "seed=6", "test.decoding.seed: was 5, now 6"),
        ("max_completion_length=24", "max_completion_length=25", "max_completion_length: was 24, now 25"),
        ("asset:stories260k", "stories260k=asset:polite_guide", "model.weights: was"),
    ],
)
def test_another_model_or_decoding_is_refused(
    whole: Path, old: str, new: str, told: str, capsys: pytest.CaptureFixture[str]
):
    before = texts(whole)
    assert main([*(new if word == old else word for word in COMMAND), "--out", str(whole)]) == 2
    error = capsys.readouterr().err
    assert told in error
    assert "Nothing is mixed" in error
    assert texts(whole) == before


def test_a_task_that_has_changed_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    rows = tmp_path / "mine.jsonl"
    rows.write_text('{"id": "a", "prompt": "Once upon"}\n')
    command = ["generate", str(rows), "--model", "asset:stories260k", "--out", str(tmp_path / "out")]
    assert main([*command, "max_completion_length=4"]) == 0
    rows.write_text('{"id": "a", "prompt": "Twice upon"}\n')
    assert main([*command, "max_completion_length=4"]) == 2
    assert "is there with another prompt" in capsys.readouterr().err


def test_answers_do_not_depend_on_what_is_written_beside_them(whole: Path, tmp_path: Path):
    """One at a time, and only some of the items: the same seeds, so the same texts (float32, no close calls)."""
    command = [w if w not in ("max_rows=8", "limit=40") else {"max_rows=8": "max_rows=2", "limit=40": "limit=6"}[w]
               for w in COMMAND]  # fmt: skip
    assert main([*command, "--out", str(tmp_path)]) == 0
    some, all_of_them = texts(tmp_path), texts(whole)
    assert len(some) == 12
    assert {k: all_of_them[k] for k in some if k in all_of_them} == {k: v for k, v in some.items() if k in all_of_them}


def test_greedy_answers_are_those_of_transformers(tmp_path: Path):
    """An independent writer: transformers' own generate, one prompt at a time."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    settings = settings_of(["limit=5", "max_completion_length=16"])
    batch = Batch(task=task_of(OPENINGS), items=items_of(task_of(OPENINGS), limit=5))
    written = generate(tmp_path, model_of("asset:stories260k", settings), batch, settings)
    folder = asset("asset:stories260k")
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    by_id = {item.id: str(item.prompt) for item in batch.items}
    for answer in written.answers:
        ids = tokenizer(by_id[answer.item], return_tensors="pt")["input_ids"]
        with torch.no_grad():
            out = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=16, do_sample=False)
        assert answer.text == tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True)
        assert answer.columns["prompt_tokens"] == ids.shape[1]


def test_a_prompt_that_is_too_long_is_missing_and_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    rows = tmp_path / "long.jsonl"
    rows.write_text(json.dumps({"prompt": "word " * 600}) + '\n{"prompt": "Once"}\n')
    command = ["generate", str(rows), "--model", "asset:stories260k", "--out", str(tmp_path / "out")]
    for _ in range(2):
        assert main([*command, "max_completion_length=4"]) == 0
        assert "1 answers of stories260k" in (said := capsys.readouterr().out)
        assert "1 missing: the prompt has" in said
    assert len(list((tmp_path / "out/missing").glob("*.jsonl"))) == 1


def test_what_a_command_would_cost_is_told_and_nothing_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main([*COMMAND, "--out", str(tmp_path / "none"), "--dry-run"]) == 0
    assert "40 items, 80 answers to make" in (said := capsys.readouterr().out)
    assert "at most 1,920 of replies" in said  # 80 times 24
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["temprature=1"], "temprature: no such setting. Did you mean temperature?"),
        (["max_new_tokens=8"], "max_new_tokens: no such setting. Here it is max_completion_length."),
        (["do_sample=true"], "temperature: 0 takes the likeliest token, above 0 tokens are drawn"),
        (["lr=0.1"], "lr: no such setting; there are num_samples, temperature,"),
        (["seed=1", "seed=2"], "seed: is given twice"),
        (["2nd=1"], "2nd=1: expected KEY=VALUE"),
        (["num_samples=4"], "several answers at temperature 0 are all the same"),
        (["top_p=0"], "top_p: found 0"),
        (["form=chatty"], "expected one of auto, chat, text"),
    ],
)
def test_settings_that_cannot_be(words: list[str], told: str):
    with pytest.raises(UserError) as caught:
        settings_of(words)
    assert told in str(caught.value)

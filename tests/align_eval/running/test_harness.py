"""lm-evaluation-harness: what it writes becomes our numbers; where it is not, that is said."""

from __future__ import annotations

import importlib.util
import json
import shlex
import sys
from pathlib import Path

import pytest

from align_eval.cli import main
from align_eval.results.reading import read

# what lm_eval 0.4.13 wrote for the shipped model on a task of 20 questions (results_*.json, cut)
WRITTEN = {
    "results": {
        "tiny_sums": {"name": "tiny_sums", "alias": "tiny_sums", "sample_len": 20, "acc,none": 0.5,
                      "acc_stderr,none": 0.11470786693528086},
        "other": {"alias": "other", "sample_len": 3, "bleu,none": 12.5, "bleu_stderr,none": "N/A",
                  "exact_match,strict-match": 1.0, "exact_match_stderr,strict-match": 0.0},
    },
    "versions": {"tiny_sums": 2}, "n-shot": {"tiny_sums": 0}, "lm_eval_version": "0.4.13",
    "n-samples": {"tiny_sums": {"original": 20, "effective": 20}},
}  # fmt: skip


def program(folder: Path, code: str) -> str:
    """A command that stands for lm_eval: it notes its words, and does what `code` says with `place`."""
    file = folder / "lm_eval.py"
    head = "import json, pathlib, sys\nplace = pathlib.Path(sys.argv[sys.argv.index('--output_path') + 1])\n"
    note = f"pathlib.Path({str(folder / 'words.json')!r}).write_text(json.dumps(sys.argv[1:]))\n"
    file.write_text(head + note + code)
    return shlex.join([sys.executable, str(file)])


def test_its_numbers_stand_in_results_with_intervals_of_its_standard_errors(tmp_path: Path):
    code = f"(place / 'm').mkdir()\n(place / 'm/results_1.json').write_text({json.dumps(WRITTEN)!r})\n"
    words = [f"command={program(tmp_path, code)}", "limit=20", "num_fewshot=0"]
    out = tmp_path / "out"
    tasks = ["--tasks", "tiny_sums,other", "--tasks", "third"]
    assert main(["harness", *tasks, "--model", "asset:stories260k", "--out", str(out), *words]) == 0
    found = read(out)
    rows = {(r.task, r.metric): r.estimate for r in found.sections.scores}
    acc = rows["lm_eval/tiny_sums", "acc"]
    assert (acc.value, acc.n, acc.unit) == (0.5, 20, "share")
    assert acc.low == pytest.approx(0.5 - 1.959964 * 0.114707867)  # 0.2752
    assert acc.high == pytest.approx(0.7248, abs=1e-4)
    assert "lm_eval's standard error 0.1147" in acc.method
    assert rows["lm_eval/other", "bleu"].low is None
    assert "no standard error" in rows["lm_eval/other", "bleu"].why
    assert rows["lm_eval/other", "exact_match (strict-match)"].value == 1.0
    assert [f.what for f in found.failures] == ["lm_eval/third"]
    asked = json.loads((tmp_path / "words.json").read_text())
    assert asked[0] == "run"
    assert asked[asked.index("--tasks") + 1] == "tiny_sums,other,third"
    assert "stories260k" in asked[asked.index("--model_args") + 1]
    assert asked[asked.index("--limit") + 1] == "20"
    assert "--apply_chat_template" not in asked  # the shipped model has none


def test_its_failure_is_told_with_its_own_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    words = [f"command={program(tmp_path, 'print(chr(10) + chr(84) + chr(105)); sys.exit(3)')}"]
    command = ["harness", "--tasks", "t", "--model", "asset:stories260k", "--out", str(tmp_path / "out"), *words]
    assert main(command) == 1
    error = capsys.readouterr().err
    assert "ended with exit code 3" in error
    assert "Ti" in error


@pytest.mark.skipif(importlib.util.find_spec("lm_eval") is not None, reason="lm_eval is installed here")
def test_where_it_is_not_installed_that_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["harness", "--tasks", "t", "--model", "asset:stories260k", "--out", str(tmp_path)]) == 2
    assert "pip install lm_eval" in capsys.readouterr().err
    assert main(["harness", "--tasks", "t", "--model", "asset:stories260k", "--out", str(tmp_path), "limitt=3"]) == 2
    assert "Did you mean limit?" in capsys.readouterr().err

"""Checkpoints of a real run are judged against what it began with: its report, what is asked again, gates."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from small_runs import lines, train

from align.judges.named import JudgeSpec, make_judge
from align_eval import judge_checkpoints
from align_eval.cli import main
from align_eval.generation.settings import settings_of
from align_eval.judging.settings import Judging
from align_eval.results.reading import read
from align_eval.store import read_verdicts

STEPS = (
    "training.max_steps=2", "training.num_train_epochs=null", "training.save_steps=1", "training.eval_steps=0",
    "training.save_total_limit=5", "logging.num_completions=0", "data.num_rows=120", "training.batch_size=8",
    "optim.learning_rate=3e-3", "optim.warmup_ratio=0",
)  # fmt: skip
SHORT = "decoding.max_completion_length=12"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train("dpo", tmp_path_factory.mktemp("checkpoints") / "dpo", *STEPS)


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "dpo"))


def command(run: Path, *words: str) -> int:
    return main(["checkpoints", str(run), "--judge", "rule:longer", SHORT, *words])


def test_each_checkpoint_against_step_0(run: Path, capsys: pytest.CaptureFixture[str]):
    assert command(run, "--dry-run") == 0
    assert "dpo@2: " in capsys.readouterr().out
    assert not (run / "evaluations").exists()
    assert command(run) == 0
    folder = run / "evaluations/judged/validation"
    said = [v for v in read_verdicts(folder) if v.score is not None]
    rows = lines(run / "evaluations/checkpoints.jsonl")
    for step in (1, 2):
        shares = [v.score if v.models[0] != "dpo@0" else 1 - v.score for v in said if f"dpo@{step}" in v.models]
        share = sum(shares) / len(shares)
        (row,) = (r for r in rows if r["step"] == step and r["metric"] == "win rate against step 0")
        assert row["value"] == pytest.approx(share)
        assert row["task"] == "validation, judged by rule:longer"
        assert 0 <= row["low"] < row["value"] < row["high"] <= 1
    assert {frozenset(v.models) for v in read_verdicts(folder)} == {frozenset(("dpo@0", f"dpo@{s}")) for s in (1, 2)}
    page = (run / "report.html").read_text()
    assert "validation, judged by rule:longer" in page
    assert {row.b for row in read(folder).sections.pairs} == {"dpo@0"}
    assert all(row.adjusted["holm"] is not None for row in read(folder).sections.pairs)
    again(run, folder, capsys)


def again(run: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is written or asked anew, not even elsewhere; another judge stands beside the first."""
    before = (run / "evaluations/checkpoints.jsonl").read_text()
    files = sorted(p.name for p in folder.rglob("*.jsonl"))
    (elsewhere := run.parent / "elsewhere").mkdir()
    run = run.rename(elsewhere / run.name)
    folder = run / "evaluations/judged/validation"
    assert command(run) == 0
    assert sorted(p.name for p in folder.rglob("*.jsonl")) == files
    assert (run / "evaluations/checkpoints.jsonl").read_text() == before
    shorter = make_judge(JudgeSpec(judge="rule:shorter"))
    found = judge_checkpoints(run, [shorter], Judging(items=4), settings_of([SHORT.removeprefix("decoding.")]))
    assert {v.item for v in found.source.verdicts} == {item.id for item in found.contest.batch.items}
    assert len(found.contest.batch.items) == 4
    tasks = {row["task"] for row in lines(run / "evaluations/checkpoints.jsonl")}
    assert tasks == {f"validation, judged by rule:{which}" for which in ("longer", "shorter")}
    capsys.readouterr()
    gates(run, capsys)


def gates(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The newest checkpoint decides; of a sequence each is a look, and the same numbers again are none."""
    assert command(run, "--gate", "delta > -1 at 90%") == 0
    assert "step 2, the newest: gate delta > -1 at 90%: passed" in capsys.readouterr().out
    assert command(run, "--gate", "win_rate > 0.999 at 95%") == 3
    record = run / "looks.jsonl"
    for _ in range(2):
        assert command(run, "--gate", "delta > -1.5 at 95%", "--gate-sequence", str(record)) == 0
    assert [row["look"] for row in lines(record)] == [1, 2]
    assert "step 1: gate delta > -1.5 at 95%, look 1: passed" in capsys.readouterr().out
    assert command(run, "--gate", "delta > 0 at 95%", "--gate-sequence", str(record)) == 2
    assert "is of the gate" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [(["--gate", "dleta > 0 at 95%"], "no number 'dleta'; there will be delta, win_rate, lc_win_rate. Did you"),
     (["--gate-sequence", "x"], "belongs to --gate"), (["baseline=dpo@1"], "are judged against step 0; leave baseline"),
     (["decoding.limit=3"], "decoding.limit: every checkpoint gives one"), (["a.jsonl", "b.jsonl"], "expected one"),
     (["decoding.temprature=1"], "Did you mean temperature"), (["polite"], "align-eval run polite --checkpoints"),
     (["none.jsonl"], "none.jsonl: no such file"), (["--judge", "recorded:none.json"], "none.json: cannot be read"),
     (["--judge", "rule:nothing"], "nothing")],
)  # fmt: skip
def test_mistakes_are_told_before_anything_is_written(
    trained: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
):
    assert command(trained, *words) == 2
    assert message in capsys.readouterr().err
    assert not (trained / "evaluations").exists()


def test_a_run_that_holds_nothing_out_is_told_what_to_name(run: Path, capsys: pytest.CaptureFixture[str]):
    recipe = (run / "recipe.yaml").read_text()
    (run / "recipe.yaml").write_text(recipe.replace("validation: 0.1", "validation: 0").replace("  test: ", "  # "))
    assert command(run) == 2
    told = capsys.readouterr().err
    assert "holds no prompts out" in told
    assert f"align-eval checkpoints {run} prompts.jsonl" in told
    (run / "p.jsonl").write_text('{"prompt": "Once"}\n{"prompt": "Twice"}\n')
    assert command(run, str(run / "p.jsonl")) == 0
    assert {row["task"] for row in lines(run / "evaluations/checkpoints.jsonl")} == {"p, judged by rule:longer"}


def test_no_judge(trained: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["checkpoints", str(trained)]) == 2
    assert "no judge is named" in capsys.readouterr().err

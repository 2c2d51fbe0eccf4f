"""Every checkpoint of a real run is scored with its own weights, and the run's report shows how it went."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from small_runs import train

from align.errors import UserError
from align.report.page import write as write_report
from align_eval import evaluate_checkpoints
from align_eval.cli import main
from align_eval.generation.settings import settings_of
from align_eval.generation.trained import find
from align_eval.results.reading import read

STEPS = (
    "training.max_steps=4", "training.num_train_epochs=null", "training.save_steps=2", "training.eval_steps=0",
    "training.save_total_limit=5", "logging.num_completions=0", "data.validation=0", "data.num_rows=70",
)  # fmt: skip
SOME = settings_of(["limit=12"])


def values(folder: Path, model: str) -> dict[str, float | None]:
    return {r.metric: r.estimate.value for r in read(folder).sections.scores if r.model == model and not r.category}


def score_of(folder: Path, model: str) -> list[list[float]]:
    """Of every item, the log-probabilities of both answers."""
    from align_eval.store import read_answers

    return [a.columns["logps"] for a in sorted(read_answers(folder), key=lambda a: a.item) if a.model == model]


@pytest.mark.parametrize(
    "words", [("optim.learning_rate=1e-3",), ("model.lora={r: 4}", "optim.learning_rate=1e-2")], ids=["whole", "lora"]
)
def test_the_last_checkpoint_scores_as_final_and_step_0_as_the_model_that_training_began_with(
    words: tuple[str, ...], tmp_path: Path
):
    run = train("dpo", tmp_path / "runs/dpo", *STEPS, *words)
    course = evaluate_checkpoints(run, "polite", settings=SOME)
    assert [p.step for p in course.curve("polite")] == [0, 2, 4]
    assert {p.metric for p in course.curve("polite")} == {"accuracy"}
    others = tmp_path / "others"
    command = ["run", "polite", "--out", str(others), "limit=12"]
    assert main([*command, "--model", f"final={run}", "--model", "base=asset:stories260k"]) == 0
    for one, other in (("dpo@4", "final"), ("dpo@0", "base")):
        ours, theirs = score_of(run / "evaluations", one), score_of(others, other)
        assert [v for pair in ours for v in pair] == pytest.approx([v for pair in theirs for v in pair], rel=1e-5)
        assert values(run / "evaluations", one) == values(others, other)
    first, last = score_of(run / "evaluations", "dpo@0"), score_of(run / "evaluations", "dpo@4")
    assert first != last
    page = (run / "report.html").read_text()
    assert "Evaluations of checkpoints" in page
    assert "polite: accuracy" in page
    if "lora" not in str(words):
        again(run)
    shutil.rmtree(run / "final")
    assert find(str(run)).checkpoint == run / "checkpoints/step-000004"  # the newest one stands for an unended run


def again(run: Path) -> None:
    """A second time nothing is written, and another task stands beside the first."""
    command = ["run", "--checkpoints", str(run), "limit=12"]
    before = (run / "evaluations/checkpoints.jsonl").read_text()
    files = sorted((run / "evaluations/answers").iterdir())
    assert main([*command, "polite"]) == 0
    assert (run / "evaluations/checkpoints.jsonl").read_text() == before
    assert sorted((run / "evaluations/answers").iterdir()) == files
    assert main([*command, "hhh"]) == 0
    rows = [json.loads(line) for line in (run / "evaluations/checkpoints.jsonl").read_text().splitlines()]
    assert {(row["task"], row["step"]) for row in rows} == {(t, s) for t in ("polite", "hhh") for s in (0, 2, 4)}


def test_damage_is_told_on_the_page(tmp_path: Path):
    run = tmp_path / "run"
    (run / "evaluations").mkdir(parents=True)
    (run / "recipe.yaml").write_text("method: {name: dpo}\n")
    file = run / "evaluations/checkpoints.jsonl"
    row = {"step": 3, "task": "t", "metric": "m", "value": None, "low": None, "high": None, "why": "no <answer>"}
    file.write_text(json.dumps(row) + '\n{"step": 4, "tas')
    assert "missing: no &lt;answer&gt;" in (page := write_report([run]).read_text())
    assert "the last line is damaged" in page
    file.write_text("nonsense\n" + json.dumps(row) + "\n")
    assert "is no JSON object" in write_report([run]).read_text()


def test_a_folder_without_checkpoints_is_refused(tmp_path: Path):
    with pytest.raises(UserError, match=r"no recipe\.yaml"):
        evaluate_checkpoints(tmp_path, "polite")

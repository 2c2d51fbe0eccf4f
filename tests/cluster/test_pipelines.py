"""Stages that follow each other, as jobs of a real Slurm."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from cluster_jobs import log_of
from slurm_cluster import Cluster
from small_runs import lines

from align.cli.main import main

SHORT = [
    "data.num_rows=16", "data.validation=0", "data.test=0", "training.num_train_epochs=null", "training.eval_steps=0",
    "training.max_steps=2", "training.batch_size=4", "training.save_steps=0", "logging.num_completions=0",
    "training.load_best_model_at_end=false",
]  # fmt: skip
EVALUATION = [
    "align-eval generate {folder}/questions.jsonl --out {folder}/evaluation/answers --model sft={sft} "
    "--model dpo={dpo} max_completion_length=8",
    "align-eval judge {folder}/evaluation/answers --judge rule:longer",
    "align-eval compare sft dpo -e {folder}/evaluation/answers",
    "align-eval report {folder}/evaluation/answers",
]
STAGES = [
    {"name": "sft", "recipe": "sft", "overrides": SHORT},
    {
        "name": "dpo", "recipe": "dpo", "overrides": [*SHORT, "model.model_name_or_path={sft}"], "after": ["sft"],
        "job": {"nodes": 2},
    },
    {"name": "evaluation", "commands": EVALUATION, "after": ["dpo"]},
]  # fmt: skip


def write(path: Path, stages: list[dict[str, object]], **more: object) -> str:
    told = {"folder": str(path.with_suffix("")), "job": {"time": 20, "preflight": 0}, "stages": stages, **more}
    path.write_text(yaml.safe_dump(told), encoding="utf-8")
    return str(path)


def job(folder: Path, stage: str) -> str:
    return lines(folder / stage / "launch/jobs.jsonl")[-1]["job"]


def spoilt(folder: Path, file: str, cluster: Cluster, capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    """Stage -> its job, of which none has begun; the model that the second one is told to read is not there."""
    jobs = {name: job(folder, name) for name in ("sft", "dpo", "evaluation")}
    assert cluster.state(jobs["dpo"])["Dependency"] == f"afterok:{jobs['sft']}(unfulfilled)"
    assert main(["launch", "pipeline", file]) == 2
    assert f"stage sft: job {jobs['sft']}: " in capsys.readouterr().err
    recipe = folder / "dpo/launch/recipe.yaml"
    kept = recipe.read_text()
    assert f"model_name_or_path: {folder}/sft\n" in kept
    recipe.write_text(kept.replace(f"{folder}/sft", f"{folder}/nowhere"))
    return jobs


@pytest.mark.processes
@pytest.mark.usefixtures("submit")
def test_a_failed_stage_ends_what_follows_and_the_pipeline_goes_on_from_there(
    cluster: Cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """Three stages to an evaluation's page; the second fails at first, because its model has been spoilt."""
    folder, file = tmp_path / "three", write(tmp_path / "three.yaml", STAGES)
    folder.mkdir()
    (folder / "questions.jsonl").write_text('{"prompt": "Once upon a time"}\n{"prompt": "One day"}\n')
    with cluster.starting_nothing():  # a first stage may have ended before the last one is submitted
        assert main(["launch", "pipeline", file]) == 0
        first = spoilt(folder, file, cluster, capsys)
    assert cluster.wait(first["dpo"], "FAILED")["ExitCode"] == "2:0"
    cluster.wait(first["evaluation"], "CANCELLED")
    assert main(["launch", "status", str(folder)]) == 0
    said = capsys.readouterr().out
    assert "sft: has ended well\n" in said
    assert f"dpo: job {first['dpo']}: FAILED" in said
    assert main(["launch", "pipeline", file]) == 0
    assert "sft: has ended well already\n" in capsys.readouterr().out
    last = job(folder, "evaluation")
    cluster.wait(last, "COMPLETED", "FAILED")
    assert cluster.state(last)["JobState"] == "COMPLETED", log_of(folder / "evaluation", last)
    assert job(folder, "sft") == first["sft"]
    assert (folder / "evaluation/answers/report.html").exists()
    assert main(["launch", "pipeline", file, "--local"]) == 0
    assert "==> evaluation: has ended well already\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("stages", "told"),
    [
        ([{"name": "a"}], "stages.0: a: expected a recipe, or commands, and not both"),
        ([{"name": "a/b", "recipe": "sft"}], "stages.0: name: found 'a/b'; expected a name for a folder"),
        ([{"name": "a", "recipe": "sft", "after": ["b"]}], "stages.0: after: b is no stage above a"),
        ([{"name": "a", "commands": ["rm -r x"]}], "'rm -r x' begins with rm; expected align or align-eval"),
        ([{"name": "a", "recipe": "sft", "rcipe": "x"}], "stages.0.rcipe: no such key"),
        ([{"name": "a", "recipe": "sft", "job": {"nods": 2}}], "stages.0.job.nods: no such key"),
        ([{"name": "a", "recipe": "sft", "job": {"array": "0-3"}}], "stages.0.job.array: is not for the stages"),
        ([{"name": "a", "recipe": "sft"}, {"name": "a", "recipe": "sft"}], "stages.1: name: a is the name of two"),
        (
            [{"name": "a", "recipe": "sft"}, {"name": "b", "recipe": "dpo", "overrides": ["x={a}"]}],
            "stages.1: b reads {a}, and does not come after a; name it in `after`",
        ),
        ([{"name": "a", "recipe": "sft", "overrides": ["method.x=1"]}], "stage a: command line: method.x: no such key"),
        (
            [{"name": "a", "recipe": "sft", "overrides": ["training.output_dir=x"]}],
            "stages.0: a: training.output_dir: each stage has its own, in the pipeline's folder",
        ),
        ([], "stages: missing; expected a list of stages"),
    ],
)
def test_what_is_wrong_with_a_pipeline_is_told_before_anything_is_submitted(
    stages: list[dict[str, object]], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert main(["launch", "pipeline", write(tmp_path / "p.yaml", stages), "--dry-run"]) == 2
    assert told in capsys.readouterr().err
    assert not (tmp_path / "p").exists()


def test_numbers_are_texts_to_sbatch_and_the_folder_is_the_pipelines(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    job = {"sbatch": {"mem": 64, "exclusive": ""}}
    file = write(tmp_path / "p.yaml", [{"name": "a", "recipe": "sft", "job": job}], folder=str(tmp_path / "all"))
    assert main(["launch", "pipeline", file, "--dry-run"]) == 0
    assert "#SBATCH --exclusive\n#SBATCH --mem=64\n" in capsys.readouterr().out
    assert main(["launch", "pipeline", file, "training.output_dir=x", "--dry-run"]) == 2
    assert "training.output_dir: each stage has its own; the folder of all is --folder" in capsys.readouterr().err


def test_a_folder_is_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    file = write(tmp_path / "p.yaml", [{"name": "a", "recipe": "sft"}], folder=7)
    assert main(["launch", "pipeline", file, "--dry-run"]) == 2
    assert "p.yaml: folder: found 7; expected the name of a folder" in capsys.readouterr().err


def test_the_shipped_pipeline_can_be_submitted(repository: Path, capsys: pytest.CaptureFixture[str]):
    file = repository / "launch/pipelines/quickstart.yaml"
    assert main(["launch", "pipeline", str(file), "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "#### evaluation, after reward_model, dpo\n#!/bin/bash\n" in said
    assert "-m align_eval compare sft dpo -e " in said

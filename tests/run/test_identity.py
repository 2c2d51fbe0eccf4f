"""A run is all that its numbers depend on: what goes on is that run, or is refused, or is told to be a changed one."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from kills import begin, kill, wait_for
from small_runs import lines, metrics, same, told, train, weights

from align.assets import asset
from align.cli.main import main
from align.system.sums import unsealed

RUN = (
    "data.num_rows=40", "data.test=0", "data.validation=0", "training.eval_steps=0", "training.batch_size=2",
    "training.max_steps=2", "training.save_steps=1", "training.save_total_limit=9", "logging.num_completions=0",
)  # fmt: skip
ONLINE = (
    "rollout.num_generations=2", "rollout.max_completion_length=8", "rollout.staleness=1",
    "rollout.correction=truncate",
)  # fmt: skip
LONGER = ("training.max_steps=4", "training.save_steps=0")


def refused(capsys: pytest.CaptureFixture[str], recipe: str, out: Path, *words: str) -> str:
    capsys.readouterr()
    assert main(["train", recipe, f"training.output_dir={out}", *words, "--resume"]) == 2
    return capsys.readouterr().err


def test_another_config_beside_the_same_weights_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    model = Path(shutil.copytree(asset("asset:stories260k"), tmp_path / "model"))
    words = (*RUN, f"model.model_name_or_path={model}")
    out = train("dpo", tmp_path / "run", *words)
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"transformers_version": "4.0"}))
    train("dpo", out, *words, "--resume")
    (model / "config.json").write_text(json.dumps(config | {"rms_norm_eps": 0.5}))
    message = refused(capsys, "dpo", out, *words)
    assert "resume: inputs.model.config.json: the saved run has" in message
    train("dpo", out, *words, "--resume", "--allow-changes", "inputs.model")


@pytest.fixture(scope="module")
def ahead(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose next experience is written ahead."""
    return train("grpo", tmp_path_factory.mktemp("ahead") / "run", *RUN, *ONLINE, *LONGER, "training.save_steps=2")


@pytest.mark.parametrize("change", ["rollout.temperature=1.5", "reward.functions=[repetition]"])
def test_a_change_that_was_killed_before_its_first_checkpoint_stays_one(
    change: str, ahead: Path, tmp_path: Path
):
    words = (*RUN, *ONLINE, *LONGER, change)
    allowed = ("--resume", "--allow-changes", change.partition("=")[0])
    for name in ("right", "killed"):
        shutil.copytree(ahead, tmp_path / name, ignore=shutil.ignore_patterns("final", "step-000004"))
    right = train("grpo", tmp_path / "right", *words, *allowed)
    out = tmp_path / "killed"
    child = begin(Path("grpo"), out, *words, *allowed)
    assert wait_for(child, lambda: len(lines(out / "metrics.jsonl")) == 3 and told(out / "identity.json"))
    kill(child)
    assert (out / "checkpoints/step-000002").exists()
    train("grpo", out, *words, "--resume")
    assert metrics(out) == metrics(right)
    assert same(weights(out), weights(right))


def test_a_checkpoint_of_another_run_that_is_put_in_place_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    out, again, other = (
        train("dpo", tmp_path / name, *RUN, f"training.seed={seed}") for name, seed in (("a", 0), ("b", 0), ("c", 1))
    )
    inside = out / "checkpoints/step-000002"
    for foreign, findings in ((again, ["run"]), (other, ["run", "training.seed"])):
        shutil.rmtree(inside)
        shutil.copytree(foreign / "checkpoints/step-000002", inside)
        message = refused(capsys, "dpo", out, *RUN, "training.seed=0")
        assert re.findall(r"resume: ([\w.]+): the saved run has", message) == findings
        assert "written by another run and put here" in message
    train("dpo", tmp_path / "named", *RUN, "--resume", str(again / "checkpoints/step-000002"))
    assert told(tmp_path / "named/identity.json")["run"] != told(again / "identity.json")["run"]


def older(out: Path) -> None:
    """As the first format was: the folder alone said which run it is, and not by what files."""
    about = out / "identity.json"
    new = unsealed(told(about))
    about.write_text(json.dumps({k: v for k, v in new.items() if k not in ("format", "run", "inputs", "arithmetic")}))
    for path in (out / "checkpoints").iterdir():
        manifest: dict[str, Any] = unsealed(told(path / "manifest.json"))
        (path / "identity.json").unlink()
        del manifest["files"]["identity.json"]
        (path / "manifest.json").write_text(json.dumps(manifest))


def test_a_run_of_an_older_align_goes_on_and_is_told_what_cannot_be_seen(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    out = train("dpo", tmp_path / "run", *RUN)
    before = weights(out)
    older(out)
    shutil.rmtree(out / "checkpoints/step-000002")
    assert "method.beta: the saved run has 0.1" in refused(capsys, "dpo", out, *RUN, "method.beta=0.3")
    capsys.readouterr()
    train("dpo", out, *RUN, "--resume")
    assert "step-000001: was written by an older align, which did not note" in capsys.readouterr().out
    assert same(weights(out), before)
    train("dpo", out, *RUN, "--resume")
    assert "older align" not in capsys.readouterr().out, "from the next checkpoint on it is known"


def test_a_run_folder_that_does_not_say_what_it_is_does_by_its_checkpoints(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    out = train("dpo", tmp_path / "run", *RUN)
    whole = (out / "identity.json").read_bytes()
    for damaged in (b"", whole.replace(b'"beta": 0.1', b'"beta": 0.2')):
        (out / "identity.json").write_bytes(damaged)
        message = refused(capsys, "dpo", out, *RUN, "method.beta=0.2")
        assert "method.beta: the saved run has 0.1, this one 0.2" in message
        capsys.readouterr()
        train("dpo", out, *RUN, "--resume")
        assert "identity.json: cannot be read" in capsys.readouterr().out
        assert (out / "identity.json").read_bytes() == whole

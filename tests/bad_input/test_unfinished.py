"""What is said of runs that have not come to their end, and of data that have nothing to learn from."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from mistakes import RECIPE, dump

from align.cli.main import main
from align.models.save import fingerprint
from align.models.sources import resolve
from align.recipe import combinations, notes
from align.recipe.load import load_recipe
from align.rewards.learned import Reward
from align.system.files import sweep


def stopped(capsys: pytest.CaptureFixture[str], *words: str) -> bytes:
    """A run of two steps that was stopped behind the second; the weights that its last checkpoint holds."""
    assert main(["train", "mine.yaml", *words]) == 0
    weights = next(Path("run/final").glob("*.safetensors")).read_bytes()
    shutil.rmtree("run/final")
    capsys.readouterr()
    return weights


def weights_in(folder: str) -> bytes:
    return next(Path(folder).glob("*.safetensors")).read_bytes()


@pytest.mark.parametrize("lora", ["null", "{r: 2}"])
def test_a_stopped_run_is_its_newest_checkpoint(capsys: pytest.CaptureFixture[str], lora: str):
    """What `final/` would have held, bit for bit, template and all; made once."""
    last = stopped(capsys, f"model.lora={lora}", "training.max_steps=2")
    assert main(["export", "run", "out"]) == 0
    told = capsys.readouterr().out
    assert "run has no final/ yet; its newest good checkpoint is taken, that of step 2" in told
    assert "run/checkpoints/step-000002: a model folder is made of it, run/models/step-000002" in told
    assert weights_in("run/models/step-000002") == last
    assert main(["export", "run/checkpoints/step-000002", "in/of_checkpoint"]) == 0
    assert "a model folder is made" not in capsys.readouterr().out
    assert weights_in("out") == weights_in("in/of_checkpoint")
    for where, finding in (("out", "exists and is not empty"), ("mine.yaml/out", "cannot be written: Not a directory")):
        assert main(["export", "run/checkpoints/step-000002", where]) == 2
        assert f"align: {where}: {finding}" in capsys.readouterr().err
    shutil.rmtree("run/checkpoints")  # as save_total_limit takes them away
    assert main(["train", "mine.yaml", "model.model_name_or_path=run/checkpoints/step-000002", *OTHER]) == 0


OTHER = ("training.output_dir=other", "training.max_steps=1", "data.chat_template=null")


def test_training_goes_on_from_a_checkpoint_and_says_which(capsys: pytest.CaptureFixture[str]):
    """The recipe of the run names the checkpoint: the other run may go on meanwhile."""
    last = stopped(capsys)
    first = ["train", "mine.yaml", "model.model_name_or_path=run", "model.reference=copy", *OTHER]
    assert main([*first, "model.ref_model_name_or_path=run/checkpoints/step-000001"]) == 0
    told = capsys.readouterr().out
    assert "model.model_name_or_path: run has no final/ yet; its newest good checkpoint is taken" in told
    recipe = load_recipe("other")
    assert recipe.model.model_name_or_path == "run/checkpoints/step-000002"
    assert weights_in("run/models/step-000002") == last
    weights = json.loads(Path("other/identity.json").read_text())["weights"]
    assert weights == "".join(fingerprint(f"run/models/step-00000{step}") for step in (2, 1))


def test_what_a_checkpoint_has_lost_is_told_before_training(capsys: pytest.CaptureFixture[str]):
    stopped(capsys)
    Path("run/checkpoints/step-000002/state-00000.pt").unlink()
    assert main(["check", "mine.yaml", "model.model_name_or_path=run", *OTHER]) == 0
    told = capsys.readouterr().out
    assert "that of step 1; passed over as damaged: step-000002" in told
    assert not Path("run/models").exists()  # `check` reads no weights
    assert main(["check", "mine.yaml", "model.model_name_or_path=run/checkpoints/step-000002", *OTHER]) == 2
    assert "step-000002 is damaged: state-00000.pt: missing; take another checkpoint" in capsys.readouterr().err
    file = Path("run/checkpoints/step-000001/state-00000.pt")
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    assert main(["chat", "run"]) == 2
    told = capsys.readouterr()
    assert "step-000001: damaged: state-00000.pt: content is not what was written" in told.out
    assert "run: is the folder of a run that has not come to its end" in told.err
    assert "none of its checkpoints is whole. Go on with it: align train run --resume" in told.err
    Path("run/recipe.yaml").unlink()
    assert main(["chat", "run/checkpoints/step-000001"]) == 2
    assert "says which model the checkpoint is of; put the run folder back" in capsys.readouterr().err


def test_a_run_that_was_set_back_has_another_model(capsys: pytest.CaptureFixture[str]):
    stopped(capsys, "training.max_steps=1")
    before = resolve("run")
    note = json.loads(Path(before, "align_checkpoint.json").read_text())
    Path(before, "align_checkpoint.json").write_text(json.dumps({**note, "manifest": "of another past"}))
    old = Path(before).stat().st_ino
    assert resolve("run") == before
    assert Path(before).stat().st_ino != old
    assert json.loads(Path(before, "align_checkpoint.json").read_text()) == note


def test_a_reward_model_may_be_a_checkpoint():
    assert main(["train", "mine.yaml", "method={name: reward_model}", "training.max_steps=1"]) == 0
    scores = Reward("run")(["What is it?"], ["It is four."])
    Path("run/final").rename("ended")
    for name in ("run", "run/checkpoints/step-000001"):
        assert Reward(name)(["What is it?"], ["It is four."]) == scores
    assert Path("run/models/step-000001/config.json").read_text() == Path("ended/config.json").read_text()


def test_what_is_not_installed_is_told_before_training(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    """A recipe may be checked where it is not trained."""
    monkeypatch.setattr(notes, "has_bitsandbytes", lambda: False)
    monkeypatch.setattr(combinations, "has_bitsandbytes", lambda: False)
    words = ["mine.yaml", "optim.optim=AdamW8bit", "model.load_in_4bit=true", "model.lora={r: 2}"]
    assert main(["check", *words]) == 0
    assert "model.load_in_4bit: needs bitsandbytes" in capsys.readouterr().out
    assert main(["train", *words]) == 2
    told = capsys.readouterr().err
    assert "optim.optim: AdamW8bit: needs bitsandbytes, which is not installed here: pip install" in told
    assert not Path("run").exists()


def test_a_run_without_a_checkpoint(capsys: pytest.CaptureFixture[str]):
    Path("run").mkdir()
    Path("run/recipe.yaml").write_text(RECIPE)
    assert main(["chat", "run"]) == 2
    told = capsys.readouterr().err
    assert "there is no final/ in it, and it has no checkpoint yet. Go on with it: align train run --resume" in told
    assert main(["check", "mine.yaml", "model.model_name_or_path=run"]) == 2
    assert "model.model_name_or_path: run: is the folder of a run that has not come" in capsys.readouterr().err


def verdicts(*labels: bool) -> None:
    rows: list[dict[str, Any]] = [
        {"prompt": f"What is {i}?", "completion": f"It is {i}.", "label": label} for i, label in enumerate(labels)
    ]
    dump("rows.jsonl", *rows)
    Path("mine.yaml").write_text(RECIPE.replace("dpo", "kto"))


@pytest.mark.parametrize("label", [True, False])
def test_verdicts_that_are_all_alike_are_refused(label: bool, capsys: pytest.CaptureFixture[str]):
    verdicts(*[label] * 8)
    assert main(["train", "mine.yaml"]) == 2
    told = capsys.readouterr().err
    assert f"data.train: all 8 rows have the label {str(label).lower()}: nothing to tell apart; add rows" in told


def test_steps_without_verdicts_of_a_kind_are_told(capsys: pytest.CaptureFixture[str]):
    """One of eight, four a step: (7/8)^4 = 59 %."""
    verdicts(True, *[False] * 7)
    assert main(["train", "mine.yaml", "training.max_steps=1"]) == 0
    assert "1 of 8 rows have the label true: about 59% of the steps have none; raise" in capsys.readouterr().out


def test_what_killed_writers_have_left_goes_after_a_day(folder: Path):
    for name, days in (("a.1.tmp", 2), ("b.2.tmp", 0), ("c.logps", 2)):
        (folder / name).write_text("")
        os.utime(folder / name, times=(time.time() - days * 86400 - 9,) * 2)
    sweep(folder, "*.tmp")
    assert sorted(p.name for p in folder.glob("?.*")) == ["b.2.tmp", "c.logps"]

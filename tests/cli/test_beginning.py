"""The commands by which one begins: a recipe of one's own, another project's config, rows as they will be seen."""

from __future__ import annotations

from pathlib import Path

import pytest

from align.cli.main import main
from align.recipe.load import load_recipe

TRL = "model_name_or_path: gpt2\ndataset_name: a/b\nbeta: 0.2\nprecompute_ref_log_probs: true\n"


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_recipe_of_ones_own_is_the_shipped_one(capsys: pytest.CaptureFixture[str]):
    assert main(["init", "dpo", "-o", "mine.yaml"]) == 0
    assert load_recipe("mine.yaml").method == load_recipe("dpo").method
    assert main(["init", "dpo"]) == 0
    assert capsys.readouterr().out.endswith(Path("mine.yaml").read_text())
    for words, told in ((["dpoo"], "Did you mean dpo?"), (["dpo", "-o", "mine.yaml"], "is there already")):
        assert main(["init", *words]) == 2
        assert told in capsys.readouterr().err


def test_rows_are_shown_with_what_is_learned_of_them(capsys: pytest.CaptureFixture[str]):
    assert main(["data", "sft", "data.num_rows=30", "--count", "1", "--row", "2"]) == 0
    out = capsys.readouterr().out
    assert "row 2  completion: " in out
    assert "^^^^" in out
    assert "tokens of a row: half up to" in out
    assert main(["data", "sft", "data.num_rows=30", "--split", "trusted"]) == 2
    assert "--split trusted: has no row; there are train, validation, test" in capsys.readouterr().err
    assert main(["data", "sft", "data.num_rows=30", "--row", "31"]) == 2
    assert "--row 31: train has" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["nowhere.yaml"], "nowhere.yaml: no such file; name a config or a shell script"),
        (["odd.yaml"], "is no config that is known here: TRL, alignment-handbook"),
        (["list.yaml"], "holds no keys; expected a config"),
        (["broken.yaml"], "broken.yaml: no readable YAML: line 1"),
        (["mine.yaml"], "is a recipe already; `align check mine.yaml`"),
        (["bare.yaml"], "does not say which trainer it is for; name one with --trainer: sft, dpo"),
        (["dpo.yaml", "--trainer", "dpoo"], "no such trainer; name one with --trainer"),
        (["dpo.yaml", "--from", "trll"], "--from trll: there are trl, handbook"),
        (["dpo.yaml", "--trainer", "gkd"], "TRL's gkd has no method here: its loss is over the whole vocabulary"),
        (["wrong.yaml"], "a value is not of the kind that its key has"),
        (["strange.yaml"], "strange.yaml: my_own_key: not offered: no key of TRL"),
        (["nothing.sh"], "nothing.sh: holds no command with flags"),
        (["dpo.yaml", "-o", "dpo.yaml"], "dpo.yaml: is there already"),
        (["--", "trl", "grpo", "--num_generations", "7", "--dataset_name", "a/b"], "num_generations 7 does not divide"),
    ],
)
def test_what_cannot_be_translated_is_told(words: list[str], told: str, capsys: pytest.CaptureFixture[str]):
    files = {
        "odd.yaml": "colour: red\nsize: 3\n", "list.yaml": "[1, 2]\n", "broken.yaml": "{a", "dpo.yaml": TRL,
        "mine.yaml": "method: {name: dpo}\nmodel: {}\n", "wrong.yaml": TRL + "num_train_epochs: many\n",
        "bare.yaml": "model_name_or_path: gpt2\ndataset_name: a/b\nlearning_rate: 0.1\n",
        "strange.yaml": TRL + "my_own_key: 1\n", "nothing.sh": "echo hello\n",
    }  # fmt: skip
    for name, text in files.items():
        Path(name).write_text(text)
    assert main(["translate", *words]) == 2
    assert told in capsys.readouterr().err


def test_a_command_line_is_a_recipe_on_the_standard_output(capsys: pytest.CaptureFixture[str]):
    line = "accelerate launch --num_processes 2 dpo.py --model_name_or_path gpt2 --dataset_name a/b --beta 0.2"
    line += " --no_bf16"
    assert main(["translate", "--", *line.split()]) == 0
    found = capsys.readouterr()
    Path("mine.yaml").write_text(found.out)
    here = ["data.train=asset:polite_pairs/train.jsonl", "data.columns={prompt: '{instruction}'}"]
    recipe = load_recipe("mine.yaml", ["model.model_name_or_path=asset:stories260k", *here])
    assert (recipe.method_name, recipe.training.batch_size, recipe.training.mixed_precision) == ("dpo", 16, "no")
    assert recipe.optim.learning_rate == 1e-6  # TRL's own
    assert "align launch local RECIPE --processes 2" in found.err


def test_a_foreign_config_is_no_recipe_and_says_what_it_is(capsys: pytest.CaptureFixture[str]):
    Path("theirs.yaml").write_text(TRL)
    for command in ("check", "train"):
        assert main([command, "theirs.yaml"]) == 2
        assert "is a config of TRL; `align translate theirs.yaml" in capsys.readouterr().err
    assert main(["check", "dpo", "--learning_rate=1e-5"]) == 2
    assert "write it as optim.learning_rate=VALUE" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("dpo", "data.streaming=true"), "Here: the data is prepared once, on disk"),
        (("dpo", "lr=1e-5"), "lr: here `optim.learning_rate`."),
        (("grpo", "method.beta=0.1"), "beta: here `kl_coef`."),
        (("mine.yaml",), "mine.yaml: no such file; a shipped recipe is named alone"),
        (("dpo", "optim.lr_scheduler_type=cosine_with_min_lr"), "cosine_with_min_lr needs min_lr_rate or min_lr"),
        (("dpo", "optim.lr_scheduler_kwargs={min_lr: 0}"), "no such argument; cosine has num_cycles"),
        (("dpo", "training.eval_steps=2.5"), "found 2.5; expected whole steps, or a share"),
    ],
)
def test_what_check_says_of_other_words(words: tuple[str, ...], told: str, capsys: pytest.CaptureFixture[str]):
    assert main(["check", *words]) == 2
    err = capsys.readouterr().err
    assert told in err
    assert "hinge?" not in err


def test_a_tracker_may_be_named_alone():
    assert load_recipe("dpo", ["logging.report_to=wandb"]).logging.report_to == ["wandb"]
    assert load_recipe("dpo", ["logging.report_to=none"]).logging.report_to == []


def test_shares_of_all_steps_are_steps(capsys: pytest.CaptureFixture[str]):
    words = ("training.eval_steps=0.25", "training.num_train_epochs=null", "training.max_steps=40")
    assert main(["check", "dpo", *words]) == 0
    assert "evaluations: 4, every 10 steps and at the end" in capsys.readouterr().out

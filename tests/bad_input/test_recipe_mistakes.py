"""What a user gets wrong in a recipe, by the real command: one message with place, finding and cure."""

import sys
from pathlib import Path

import pytest
from mistakes import RECIPE, Told, assert_nothing_was_begun, mistakes

from align.monitors.trackers import KNOWN

WRONG_WORDS = [
    ("method.bta=1", "command line: method.bta: no such key; dpo has beta. Did you mean beta?"),
    ("training.batch_size=0", "training.batch_size: found 0; expected 1 or more"),
    ("training.save_total_limit=0", "training.save_total_limit: found 0; expected 1 or more"),
    ("training.batch_size=-4", "training.batch_size: found -4; expected 1 or more"),
    ("training.batch_size=1e3", "training.batch_size: found 1000.0; expected a whole number"),
    ("optim.learning_rate=-1e-5", "optim.learning_rate: found -1e-05; expected more than 0"),
    ("optim.learning_rate=.inf", "optim.learning_rate: found inf; expected a finite number"),
    ("optim.learning_rate=1e-5x", "optim.learning_rate: found the text '1e-5x'; expected a number"),
    ("data.validation=1.5", "data.validation: found 1.5; expected 0 or more and less than 1"),
    ("training.eval_steps=2", "training.eval_steps: needs data.validation: a source, or a share"),
    (f"training.seed={'9' * 30}", "training.seed: found a number of 30 digits; expected less than 2^63"),
    (f"training.seed={'9' * 5000}", "training.seed: the value is no readable YAML: line 1, column 1: Exceeds"),
    ("training.seed", "command line: training.seed: not of the form section.key=value, such as training.seed=1"),
    ("rollout={}", "rollout: dpo learns from rows that are there before; remove the section"),
    ("reward.shape=[]", "reward: dpo learns from rows that are there before; remove the section"),
    ("model.lora={target_modules: [q_prj]}", "target_modules: q_prj matches nothing in LlamaForCausalLM; it has"),
    ("training.metric_for_best_model=acuracy", "no such metric: acuracy; dpo reports loss, accuracy, margin"),
    ("logging.baselines=[bag_of_words]", "logging.baselines: needs data.test, whose pairs are ranked"),
    ("optim.optim=SparseAdam", "optim.optim: no such optimiser: SparseAdam; there are ASGD, Adadelta"),
    ("optim.optim=Rprop", "optim.optim: no such optimiser: Rprop; there are ASGD, Adadelta"),
    ("optim={optim: SGD, adam_beta1: 0.8}", "optim.adam_beta1: has no effect on SGD; remove the key"),
    ("optim={optim: Adafactor, adam_epsilon: 1e-7}", "optim.adam_epsilon: has no effect on Adafactor"),
    ("optim.optim_args={decay: 1}", "command line: optim.optim_args: AdamW does not take these: "),
    ("data.train=[{source: rows.jsonl, weight: .inf}]", "data.train.0.weight: found inf; expected a finite number"),
    ("data.train=[{source: rows.jsonl, weight: 0}]", "data.train.0.weight: found 0.0; expected more than 0"),
    ("model.reference={soup: [a, b], weights: [.nan, 1]}", "model.reference.weights.0: found NaN; expected a number"),
    ("name=../../x", "name: found the text '../../x'; expected a name for a folder in runs/"),
    ("name=/tmp/x", "name: found the text '/tmp/x'; expected a name for a folder in runs/"),
    ("name=a/../../x", "name: found the text 'a/../../x'; expected a name for a folder in runs/"),
    ("data.train=asset:../../tests/far.jsonl", "no such data set; there are asset:"),
    ("training.output_dir=mine.yaml", "training.output_dir: mine.yaml: cannot be written: "),
    ("training.output_dir=mine.yaml/run", "training.output_dir: mine.yaml/run: cannot be written: "),
    ("training.output_dir=/proc/nowhere/run", "training.output_dir: /proc/nowhere/run: cannot be written: "),
]  # fmt: skip


@pytest.mark.parametrize(("word", "finding"), WRONG_WORDS, ids=[w[:40] for w, _ in WRONG_WORDS])
def test_a_wrong_word_is_told(word: str, finding: str, told: Told):
    message = told(word)
    assert finding in message
    assert "9" * 60 not in message
    assert_nothing_was_begun()


@pytest.mark.parametrize(
    ("text", "finding"),
    [
        ("method: {name: dpo\nmodel: x\n", "wrong.yaml: no readable YAML: line 2, column 6: expected ',' or '}'"),
        ("method:\n\tname: dpo\n", "wrong.yaml: no readable YAML: line 2, column 1: found character '\\t'"),
        (RECIPE + "training: {seed: 1}\n", "wrong.yaml: training: stands twice, in lines 6 and 8; keep one"),
        (
            RECIPE + "rollout: {}\nreward: {}\n",
            "reward: dpo learns from rows that are there before; remove the section",
        ),
        (RECIPE + "# caf\xe9\n", "wrong.yaml: no readable YAML: line 8: byte 0xe9 is not UTF-8"),
    ],
)
def test_a_wrong_file_is_told_with_its_line(text: str, finding: str, told: Told):
    Path("wrong.yaml").write_text(text, encoding="latin-1")
    assert finding in told(recipe="wrong.yaml")
    assert_nothing_was_begun()


def test_a_recipe_that_is_not_there_or_a_folder(told: Told):
    assert "Did you mean dpo?" in told(recipe="dpoo")
    Path("folder").mkdir()
    assert "folder: a folder without recipe.yaml" in told(recipe="folder")


def test_a_bag_of_words_is_for_pairs(told: Told):
    message = told("method.name=kto", "logging.baselines=[bag_of_words]", "data.test=0.5")
    assert "logging.baselines: bag_of_words ranks pairs; kto learns from unpaired: remove the key" in message
    assert_nothing_was_begun()


@pytest.mark.parametrize("tracker", KNOWN)
def test_a_tracker_without_its_package_is_told_before_anything_is_loaded(
    tracker: str, told: Told, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, KNOWN[tracker].module, None)  # as if it were not installed, where it is
    assert "install it with: pip install 'align-hub[tracking]'" in told(f"logging.report_to=[{tracker}]")
    assert not Path("run").exists()


def test_workers_without_a_timeout_are_told():
    assert "reward.num_workers: has no effect without reward.timeout" in mistakes("grpo", "reward.num_workers=4")[0]

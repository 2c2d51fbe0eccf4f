"""Only what is the same quantity is subtracted, or drawn on one axis."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pages import read
from report.simulated import write_lines, write_pipeline, write_run

from align.methods.metrics import TABLE
from align.report.alike import alike, kin
from align.report.curves import panels
from align.report.folder import read_run
from align.report.page import write


def test_losses_of_two_methods_are_never_subtracted_nor_drawn_together(tmp_path: Path) -> None:
    page = read(write([write_run(tmp_path / "sft", "sft"), write_run(tmp_path / "dpo", seed=1)]))
    results, rest = page.words.split("Settings that differ")
    assert "paired" not in results.replace("No difference is shown where the runs mean different quantities", "")
    assert "No difference is shown where the runs mean different quantities by a name" in results
    assert "Not drawn on one axis, because the runs mean different quantities by it: Loss (sft; dpo)" in rest
    together = [{one["label"].split(",")[0] for one in chart["series"]} for chart in page.charts]
    overlaid = [names for names in together if names == {"sft", "dpo"}]
    assert len(overlaid) == 4, "learning rate, gradient norm, speed, memory"


def test_a_pipeline_beside_a_run_draws_each_kind_by_itself(tmp_path: Path) -> None:
    pipeline, run = write_pipeline(tmp_path / "quickstart"), write_run(tmp_path / "again", seed=5)
    page = read(write([run, pipeline]))
    assert "Loss: again and quickstart/dpo" in page.words
    assert "Loss (again and quickstart/dpo; quickstart/sft; quickstart/reward_model)" in page.words


@pytest.mark.parametrize(
    ("key", "same_method", "same_reward"),
    [("loss", False, True), ("eval/loss", False, True), ("margin", False, True), ("made_up", False, True),
     ("accuracy", True, True), ("entropy", True, True), ("seconds_score", True, True), ("kl", True, True),
     ("reward", True, False), ("rewards/happy", True, False)],
)  # fmt: skip
def test_what_a_number_means_hangs_on_a_section_of_the_recipe(
    tmp_path: Path, key: str, same_method: bool, same_reward: bool
) -> None:
    runs = {}
    for name, beta, reward in (("one", 0.1, "a"), ("method", 0.5, "a"), ("reward", 0.1, "b")):
        folder = write_run(tmp_path / name, steps=2, method__beta=beta)
        text = (folder / "recipe.yaml").read_text() + f"reward: {{functions: [{reward}]}}\n"
        (folder / "recipe.yaml").write_text(text)
        runs[name] = read_run(folder)
    assert alike(key, runs["one"], runs["method"]) is same_method
    assert alike(key, runs["one"], runs["reward"]) is same_reward
    assert alike(key, runs["one"], runs["one"])


def test_entropies_at_given_and_at_written_tokens_stand_apart(tmp_path: Path) -> None:
    sft, dpo, rloo, ppo = (write_run(tmp_path / name, name, steps=4) for name in ("sft", "dpo", "rloo", "ppo"))
    for run in (sft, dpo, rloo, ppo):
        write_lines(run / "metrics.jsonl", [{"step": s, "entropy": 2.0 / s} for s in (1, 2, 3, 4)])
    for run in (rloo, ppo):
        (run / "recipe.yaml").write_text((run / "recipe.yaml").read_text() + "rollout: {temperature: 1.0}\n")
    runs = [read_run(run) for run in (sft, dpo, rloo, ppo)]
    assert [[run.name for _, run in group] for group in kin("entropy", list(enumerate(runs)))] == [
        ["sft", "dpo"], ["rloo", "ppo"],
    ]  # fmt: skip


def test_what_a_method_declares_is_its_own_quantity(tmp_path: Path) -> None:
    one, other = (write_run(tmp_path / name, steps=2, method__beta=b) for name, b in (("a", 0.1), ("b", 0.5)))
    assert alike("entropy", read_run(one), read_run(other))
    (one / "about_metrics.json").write_text(json.dumps({"entropy": {"label": "Surprise"}}))
    assert not alike("entropy", read_run(one), read_run(other))


def test_without_a_recipe_nobody_knows(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / name, steps=2) for name in ("a", "b")]
    for run in runs:
        (run / "recipe.yaml").unlink()
    found = [read_run(run) for run in runs]
    assert [len(group) for group in kin("loss", list(enumerate(found)))] == [1, 1]
    assert [len(group) for group in kin("learning_rate", list(enumerate(found)))] == [2]


def test_the_charts_of_one_run_have_one_unit_each(tmp_path: Path) -> None:
    """Rewards of two functions stand apart; chosen and rejected, which are one quantity of two answers, together."""
    keys = ["chosen_rewards", "rejected_rewards", "rewards/happy", "rewards/length", "chosen_logps", "rejected_logps"]
    assert [of for of in panels(keys).values() if len(of) > 1] == [
        ["chosen_rewards", "rejected_rewards"], ["chosen_logps", "rejected_logps"],
    ]  # fmt: skip
    run = write_run(tmp_path / "ppo")
    write_lines(run / "metrics.jsonl", [{"step": s, **dict.fromkeys(keys, s / 7)} for s in range(1, 9)])
    titles = [attrs for attrs in read(write([run])).words.split("Curves")[1:2]]
    for title in ("Rewards of chosen and rejected", "Log-probabilities of chosen and rejected", "Reward by happy"):
        assert title in titles[0]
    assert "Rewards by function" not in titles[0]


def test_sections_that_a_metric_names_are_those_of_a_recipe() -> None:
    assert {about.within for about in TABLE.values()} == {"", "method", "reward", "rollout"}

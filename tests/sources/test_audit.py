"""States whose values are looked at: against a world that can be enumerated, and through the real command to a page."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest
import torch
from online_rig import every_token, online_rig
from small_runs import lines, same, train, weights

from align.cli.main import main
from align.lab import bandit
from align.methods.ppo import PPO
from align.rollout.settings import AuditSection
from align.sources.audit import Auditor

WORDS = (
    "data.num_rows=80", "training.batch_size=8", "rollout.num_generations=2", "training.max_steps=4",
    "training.num_train_epochs=null", "training.eval_steps=4", "logging.num_completions=0",
)  # fmt: skip
STEPS = "rollout.steps=align.lab.addition:steps"
AUDIT = "rollout.audit={num_states: 6, num_samples: 8, every: 2}"


def test_what_is_called_the_value_of_a_state_is_its_value(tmp_path: Path):
    """Before the first token that is the mean worth of the policy's choice, before the second that of the first."""
    rig = online_rig(PPO(kl_coef=0.0), tmp_path / "log", max_completion_length=2)
    writer = dataclasses.replace(rig.source.writer, steps=every_token)
    rig.source.writer = writer
    section = AuditSection(num_states=60, num_samples=50, every=1)
    rig.source.audit = Auditor(section, writer, rig.source.harvester, tmp_path / "values")
    rig.source.next(rig.progress)
    found, scores = lines(tmp_path / "values" / "000000.jsonl"), list[float]()
    assert len(found) > 40
    own = {t.row: t for t in rig.source.log.lines(0)}
    for state in found:
        question = state["row"] % bandit.NUM_PROMPTS
        if state["depth"]:
            assert state["stderr"] < 1e-6, "the first token has decided"
            continue
        ids = torch.tensor([own[state["row"]].prompt])
        with torch.no_grad():
            probs = rig.trainee.module.model(input_ids=ids).logits[0, -1].softmax(-1)
        worth = torch.tensor([bandit.worth(question, token) for token in range(bandit.VOCABULARY)])
        value = (probs * worth).sum()
        spread = ((probs * worth**2).sum() - value**2).sqrt() / math.sqrt(50)
        scores.append((state["value"] - value.item()) / spread.item())
    assert abs(sum(scores) / math.sqrt(len(scores))) < 3
    assert all(-4 < score < 4 for score in scores)
    old = rig.source.buffer.experience.batch.completion.old_values if rig.source.buffer else torch.zeros(0)
    assert all(any(abs(state["estimate"] - v) < 1e-6 for v in old.flatten().tolist()) for state in found)


@pytest.mark.parametrize("method", ["vineppo", "ppo"])
def test_an_audited_run_learns_as_if_nobody_looked(method: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    words = (*WORDS, f"method.name={method}")
    plain = train("addition", tmp_path / "plain", *words, *([STEPS] if method == "vineppo" else []))
    looked = train("addition", tmp_path / "looked", *words, STEPS, AUDIT)
    assert same(weights(plain), weights(looked))
    files = sorted((looked / "values").glob("*.jsonl"))
    assert [file.name for file in files] == ["000000.jsonl", "000002.jsonl"]
    for state in (state for file in files for state in lines(file)):
        assert 0 <= state["value"] <= 1
        assert state["token"] == 2 * state["depth"]
    page = (looked / "report.html").read_text()
    assert "Values of states" in page
    assert "believed against true" in page
    assert "Values of states" not in (plain / "report.html").read_text()
    assert main(["report", str(plain), str(looked), "--out", str(tmp_path / "both.html")]) == 0
    assert "Mean absolute error of the values" in (tmp_path / "both.html").read_text()

"""Rounds whose jumps are an adapter's, against a loop of whole matrices that knows neither peft nor this package."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from kills import assert_no_trace
from peft import PeftModel
from safetensors.torch import load_file
from small_runs import BRIEF, FRESH, TINY, assert_resumes, lines, metrics, same, told, train, weights, write_recipe
from torch.func import functional_call
from transformers import AutoModelForCausalLM

from align.cli.main import main
from align.runfolder.fragments import Saved
from align.runfolder.state_files import load_state

ROUNDS, LASTING, RATE, ALPHA, BETA = 3, 2, 3e-3, 0.4, 0.5
JUDGE = '''
def judge(prompts, completions, completion_ids, **columns):
    """No two completions are worth the same, nearly."""
    return [(sum((i + 1) * t for i, t in enumerate(ids)) % 97) / 97 for ids in completion_ids]
'''
STORIES = Path(__file__).parents[2] / "align" / "assets" / "stories260k"


@pytest.fixture
def recipe(tmp_path: Path, own_module: Callable[[str, str], None]) -> Callable[..., Path]:
    own_module("judge_of_adapters", JUDGE)

    def write(**sections: dict[str, Any]) -> Path:
        made: dict[str, Any] = {
            "method": {"name": "accelerated_po", "beta": BETA, "extrapolation_alpha": ALPHA},
            "model": {"model_name_or_path": "asset:stories260k", "lora": {"r": 4, "lora_alpha": 8}},
            "data": {"train": "asset:story_openings/train.jsonl", "validation": 0, "num_rows": 40, "max_length": 64},
            "rollout": {
                "num_generations": 3, "num_prompts": 4, "num_iterations": LASTING, "max_completion_length": 8,
                "record": True,
            },
            "reward": {"functions": ["judge_of_adapters:judge"]},
            "optim": {
                "learning_rate": RATE, "lr_scheduler_type": "constant", "adam_epsilon": 1e-3, "weight_decay": 0.0,
            },
            "training": {
                "batch_size": 4, "max_steps": ROUNDS * LASTING, "eval_steps": 0, "save_steps": 1, "save_total_limit": 99
            },
            "logging": BRIEF,
        }  # fmt: skip
        made |= {name: made[name] | section for name, section in sections.items()}
        return write_recipe(tmp_path / "recipe.yaml", made)

    return write


def at(run: Path, step: int) -> Path:
    return run / "checkpoints" / f"step-{step:06d}"


# ---- the loop -------------------------------------------------------------------------------------------------------


class Plain:
    """Whole matrices W + O + 2 B A of a model; A and B learn, O is where the jumps have led."""

    def __init__(self, first: dict[str, torch.Tensor]):
        self.model = AutoModelForCausalLM.from_pretrained(STORIES)
        self.whole = {n: p.detach().clone() for n, p in self.model.named_parameters()}
        self.factors = {n: t.clone().requires_grad_() for n, t in first.items() if ".lora_" in n}
        self.names = sorted({n.rpartition(".lora_")[0] for n in self.factors})
        self.ahead = {n: torch.zeros_like(self.whole[self.inner(n)]) for n in self.names}
        self.before = self.matrices()

    @staticmethod
    def inner(name: str) -> str:
        return name.removeprefix("model.base_model.model.") + ".weight"

    def matrices(self, *, grad: bool = False) -> dict[str, torch.Tensor]:
        with torch.set_grad_enabled(grad):
            return {
                n: self.whole[self.inner(n)] + self.ahead[n]
                + 2.0 * self.factors[f"{n}.lora_B.default.weight"] @ self.factors[f"{n}.lora_A.default.weight"]
                for n in self.names
            }  # fmt: skip

    def jump(self) -> None:
        """theta = hat + alpha (hat - the hat before), of whole matrices."""
        hat = self.matrices()
        for n in self.names:
            self.ahead[n] = self.ahead[n] + ALPHA * (hat[n] - self.before[n])
        self.before = hat

    def said(self, row: dict[str, Any], *, grad: bool = False) -> torch.Tensor:
        """The summed log-probability of a completion."""
        swapped = self.whole | {self.inner(n): w for n, w in self.matrices(grad=grad).items()}
        ids, start = torch.tensor([row["prompt"] + row["tokens"]]), len(row["prompt"])
        with torch.set_grad_enabled(grad):
            logits = functional_call(self.model, swapped, (ids,), tie_weights=True).logits[0].log_softmax(-1)
            return logits[start - 1 : -1].gather(-1, torch.tensor(row["tokens"])[:, None]).sum()

    def round(self, rows: list[dict[str, Any]]) -> None:
        """DPO of the best of each prompt against its worst, from here, with a new AdamW."""
        pairs = []
        for number in dict.fromkeys(row["number"] for row in rows):
            own = sorted((r for r in rows if r["number"] == number), key=lambda r: r["rewards"]["judge"])
            if own[0]["rewards"]["judge"] < own[-1]["rewards"]["judge"]:
                pairs.append((own[-1], own[0]))
        old = [[self.said(row) for row in pair] for pair in pairs]
        optimizer = torch.optim.AdamW(self.factors.values(), lr=RATE, eps=1e-3, weight_decay=0.0)
        for _ in range(LASTING):
            losses = [
                -torch.nn.functional.logsigmoid(
                    BETA * (self.said(best, grad=True) - was[0] - self.said(worst, grad=True) + was[1])
                )
                for (best, worst), was in zip(pairs, old, strict=True)
            ]
            torch.stack(losses).mean().backward()
            torch.nn.utils.clip_grad_norm_(self.factors.values(), 1.0)
            optimizer.step()
            optimizer.zero_grad()


def written(run: Path, number: int) -> list[dict[str, Any]]:
    found = {(r["number"], r["place"]): r for r in lines(run / "rollouts" / f"{number:06d}.jsonl")}
    return list(found.values())


def test_a_run_is_a_plain_loop_over_whole_matrices(recipe: Callable[..., Path], tmp_path: Path):
    """From the same first factors and completions: each solution, each round's start, what peft makes of final/."""
    run = train(recipe(), tmp_path / "run")
    first = train(recipe(), tmp_path / "first", f"training.max_steps={LASTING}", "optim.learning_rate=1e-30")
    plain = Plain(Saved(at(first, 1) / "state", 0).whole())
    assert len(plain.names) == 35
    for number in range(ROUNDS):
        if number:
            plain.jump()
        saved = load_state(at(run, number * LASTING + 1) / "moved-00000.pt")["ahead"]
        for name, ahead in plain.ahead.items():
            found = saved[name]
            torch.testing.assert_close(found["up"] @ found["down"], ahead, rtol=1e-4, atol=5e-6)
        plain.round(written(run, number))
        factors = Saved(at(run, (number + 1) * LASTING) / "state", 0).whole()
        for name, factor in plain.factors.items():
            torch.testing.assert_close(factors[name], factor.detach(), rtol=1e-4, atol=2e-5)
    assert max(a.abs().max() for a in plain.ahead.values()) > 1e-3
    merged: Any = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(STORIES), run / "final")
    assert merged.peft_config["default"].r == ROUNDS * 4
    found = dict(merged.merge_and_unload().named_parameters())
    for name, matrix in plain.matrices().items():
        torch.testing.assert_close(found[plain.inner(name)], matrix, rtol=1e-4, atol=2e-5)
    rows = written(run, 0)
    last = AutoModelForCausalLM.from_pretrained(STORIES)
    last.load_state_dict({plain.inner(n): m for n, m in plain.matrices().items()}, strict=False)
    ids = torch.tensor([rows[0]["prompt"] + rows[0]["tokens"]])
    torch.testing.assert_close(merged(ids).logits, last(ids).logits, rtol=1e-3, atol=1e-3)


def test_a_resumed_run_is_the_same(recipe: Callable[..., Path], tmp_path: Path):
    path = recipe()
    run = train(path, tmp_path / "run")
    for step in (LASTING, LASTING + 1, 2 * LASTING, 2 * LASTING + 1):  # before a jump, and in the round that it begins
        assert_resumes(str(path), run, tmp_path, step)
    more = train(path, tmp_path / "more", f"training.max_steps={(ROUNDS + 1) * LASTING}")
    shorter = f"training.max_steps={(ROUNDS + 1) * LASTING}"
    words = (shorter, "--resume", "--allow-changes", "training.max_steps")
    longer = train(path, tmp_path / "run", *words)
    assert same(weights(more), weights(longer)), "another round finds room for its jump"


def test_killed_in_its_rounds_it_ends_as_if_nothing_had_been(recipe: Callable[..., Path], tmp_path: Path):
    instants = (
        lambda out: (out / "rounds/round-001/pairs.jsonl").exists(),
        lambda out: at(out, LASTING).exists(),  # before the jump
        lambda out: (out / "rounds/round-002/prompts.jsonl").exists(),  # after it
        lambda out: at(out, 2 * LASTING).exists(),
    )
    assert_no_trace(recipe(rollout={"max_rows": 3}), tmp_path, list(instants))


def test_without_a_jump_it_is_dpo_in_rounds_bit_for_bit(recipe: Callable[..., Path], tmp_path: Path):
    """So is the first round of any; and the next ones begin elsewhere."""
    still = train(recipe(method={"extrapolation_alpha": 0}), tmp_path / "still")
    assert "ahead" in load_state(at(still, 1) / "moved-00000.pt")
    assert not load_state(at(still, 1) / "moved-00000.pt")["ahead"]
    jump = train(recipe(), tmp_path / "jump")
    assert metrics(still)[:LASTING] == metrics(jump)[:LASTING]
    assert not same(weights(still), weights(jump))


def test_the_best_evaluation_is_kept_with_its_jumps(recipe: Callable[..., Path], tmp_path: Path):
    """final/ of a solution before the last is that of a run that ends there."""
    held = ("data.validation=0.1", f"training.eval_steps={LASTING}")
    first = train(recipe(), tmp_path / "first", *held)
    earned = [line["eval/reward"] for line in metrics(first) if "eval/reward" in line]
    keep = ("training.load_best_model_at_end=true", f"training.greater_is_better={earned[1] > earned[2]}".lower())
    best = train(recipe(), tmp_path / "best", *held, *keep)
    step = told(best / "outcome.json")["final_step"]
    assert step < ROUNDS * LASTING
    short = train(recipe(), tmp_path / "short", *held, f"training.max_steps={step}")
    assert same(weights(best), weights(short))


def test_an_adapter_that_has_learned_before_jumps_too(recipe: Callable[..., Path], tmp_path: Path):
    old = train(recipe(method={"extrapolation_alpha": 0}), tmp_path / "old", "training.max_steps=2")
    words = (f"model.model_name_or_path={old}", "model.lora=null", f"training.max_steps={2 * LASTING}")
    run = train(recipe(), tmp_path / "run", *words)
    start, state = load_file(old / "final" / "adapter_model.safetensors"), load_state(at(run, 4) / "moved-00000.pt")
    solution = Saved(at(run, LASTING) / "state", 0).whole()
    for name, found in state["ahead"].items():
        saved = name.removeprefix("model.")
        before = 2 * start[f"{saved}.lora_B.weight"] @ start[f"{saved}.lora_A.weight"]
        now = 2 * solution[f"{name}.lora_B.default.weight"] @ solution[f"{name}.lora_A.default.weight"]
        torch.testing.assert_close(found["up"] @ found["down"], ALPHA * (now - before), rtol=1e-4, atol=1e-6)
    assert main(["export", str(run), str(tmp_path / "merged")]) == 0, "the base of both is the first one's"


@pytest.mark.parametrize("command", ["check", "train"])
def test_what_has_no_factors_is_refused(
    command: str, recipe: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    words = () if command == "check" else (f"training.output_dir={tmp_path / 'run'}",)
    path = recipe(model={"lora": {"r": 2, "use_dora": True}})
    assert main([command, str(path), *words]) == 2
    assert "a jump of what DoRA scales (model.lora.use_dora) has no low rank" in capsys.readouterr().err
    untied = {**FRESH, "config": {**TINY, "tie_word_embeddings": False}, "model_name_or_path": ""}
    path = recipe(model={"lora": {"r": 2, "target_modules": ["embed_tokens", "q_proj"]}, **untied})
    assert main([*([command] if command == "train" else ["check", "--all"]), str(path), *words]) == 2
    found = capsys.readouterr()
    assert "embed_tokens is no plain matrix" in found.err + found.out

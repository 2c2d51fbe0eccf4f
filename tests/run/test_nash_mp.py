"""Nash-MP as assembled runs: a game whose equilibrium is known, and who writes in it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from kills import assert_no_trace, lines
from safetensors.torch import load_file
from small_runs import BRIEF, FRESH, assert_resumes, metrics, same, told, train, weights, write_recipe, write_rows
from transformers import AutoModelForCausalLM, AutoTokenizer

from align.cli.main import main
from align.lab.games import divergence, equilibrium, exploitability
from align.rollout.writer import from_line, line
from align.training import team

BETA = 0.2
PROMPTS = ("Once", "The cat", "One day", "Tom")
GAME = '''
"""A cycle of three kinds of words, of which there are unequally many."""

import numpy as np

from align.rewards.pairwise.oracle import win_rates

KINDS = (*[0] * 7, *[1] * 2, 2)


def kinds(ids):
    return np.array([KINDS[i % 10] for i in ids])


def matrix(kinds):
    gap = (kinds[:, None] - kinds) % 3
    return 0.5 + 0.5 * np.where(gap == 0, 0.0, np.where(gap == 1, 1.0, -1.0))


def cycle(prompts, completions, completion_ids, written_by=(), **columns):
    """A word beats those of the kind before its own; completions are judged by their first word."""
    return win_rates(matrix(kinds([ids[0] for ids in completion_ids])), [who != "policy" for who in written_by])


cycle.compares = "prompt"
'''


@pytest.fixture(autouse=True)
def ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    (tmp_path / "our_game.py").write_text(GAME)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    sys.modules.pop("our_game", None)
    yield
    sys.modules.pop("our_game", None)


def recipe(folder: Path, **sections: dict[str, Any]) -> Path:
    made: dict[str, Any] = {
        "method": {"name": "nash_mp", "beta": BETA, "target_every": 2},
        "model": FRESH,
        "data": {"train": write_rows(folder / "rows.jsonl", [{"prompt": p} for p in PROMPTS]), "max_length": 64},
        "rollout": {"num_generations": 4, "max_completion_length": 3, "record": True},
        "reward": {"functions": ["our_game:cycle"]},
        "optim": {"learning_rate": 3e-3, "lr_scheduler_type": "constant"},
        "training": {"batch_size": 2, "max_steps": 8, "save_steps": 1, "save_total_limit": 9, "eval_steps": 0},
        "logging": BRIEF,
    }
    made |= {name: made[name] | section for name, section in sections.items()}
    return write_recipe(folder / "recipe.yaml", made)


TWO = {"form": "two_step"}

# ---- a known world --------------------------------------------------------------------------------------------------


def played(folder: Path) -> torch.Tensor:
    """(prompts, words): log-probabilities of the first word, by the model in a folder."""
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained("tokenizer")
    with torch.no_grad():
        rows = [model(torch.tensor([tokenizer(p)["input_ids"]])).logits[0, -1] for p in PROMPTS]
    return torch.stack(rows).double().log_softmax(-1)


@pytest.mark.parametrize(("form", "every", "steps", "share"), [("one_step", 10, 50, 0.6), ("two_step", 5, 40, 0.9)])
def test_the_run_comes_near_the_equilibrium_of_a_game_that_goes_in_circles(
    form: str, every: int, steps: int, share: float, tmp_path: Path
):
    path = recipe(
        tmp_path, method={"form": form, "target_every": every},
        rollout={"num_generations": 24, "max_completion_length": 1, "record": False, "max_rows": 512},
        optim={"learning_rate": 1e-2, "lr_scheduler_type": "linear"},
        training={"batch_size": 4, "max_steps": steps, "save_steps": 0},
    )  # fmt: skip
    run = train(path, tmp_path / "run")
    import our_game  # type: ignore[import-not-found]  # beside the recipe

    AutoTokenizer.from_pretrained(run / "final").save_pretrained("tokenizer")
    reference, policy = played(run / "init"), played(run / "final")
    game = torch.from_numpy(our_game.matrix(our_game.kinds(range(reference.shape[1]))))
    games = game.expand(len(PROMPTS), -1, -1)
    star = equilibrium(games, reference, BETA)
    before, after = (exploitability(games, p, reference, BETA).mean().item() for p in (reference, policy))
    away, near = (divergence(star, p).mean().item() for p in (reference, policy))
    assert after < share * before, (before, after)
    assert near < share * away, (away, near)


# ---- who writes, and from where the second half begins --------------------------------------------------------------


def test_the_second_half_begins_at_the_centre_and_plays_against_the_look_ahead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    seen: list[dict[str, Any]] = []
    real = team.Team.move

    def move(self: Any, when: Any, step: int) -> None:
        real(self, when, step)
        if when == "before learning":
            moments = [{k: v.clone() for k, v in s.items()} for s in self.policy.optimizer.optimizer.state.values()]
            modules = {"policy": self.policy.module} | dict(self.copies)
            seen.append({n: {k: v.clone() for k, v in m.state_dict().items()} for n, m in modules.items()})
            seen[-1]["moments"] = moments

    monkeypatch.setattr(team.Team, "move", move)
    path = recipe(tmp_path, method=TWO)
    run = train(path, tmp_path / "run")
    centre, ahead, again = seen[0], seen[1], seen[2]
    assert not same(ahead["policy"], centre["policy"])
    assert same(again["policy"], centre["policy"]), "the look-ahead is undone, bit for bit"
    assert again["moments"] == centre["moments"] == [], "and with it what the optimiser has remembered"
    assert same(again["target"], centre["policy"])
    assert not same(again["opponent"], centre["policy"])
    assert same(seen[4]["target"], seen[4]["policy"]), "the end of the second half is the next centre"
    assert same(seen[6]["policy"], seen[4]["policy"])
    assert [m["step"].item() for m in seen[6]["moments"]] == [m["step"].item() for m in seen[4]["moments"]]
    assert all(torch.equal(a[k], b[k]) for a, b in zip(seen[6]["moments"], seen[4]["moments"], strict=True) for k in a)
    _opponents_are_the_look_aheads(run, again)
    for step in (2, 3, 6):  # the look-ahead is undone by what the checkpoint holds
        assert_resumes(str(path), run, tmp_path, step)


def _opponents_are_the_look_aheads(run: Path, then: dict[str, Any]) -> None:
    written = [{k: v for k, v in line.items() if k != "by"} for line in lines(run / "rollouts" / "000002.jsonl")]
    rows = list({(t["number"], t["place"]): t for t in written}.values())
    who = [(t.get("writer", "policy"), t["auxiliary"]) for t in rows]
    assert who == [("policy", False)] * 8 + [("opponent", True)] * 8
    assert all((t["rewards"]["cycle"] is None) == t["auxiliary"] for t in rows)
    model = AutoModelForCausalLM.from_pretrained(run / "init")
    for who in ("policy", "opponent"):
        model.load_state_dict({k.removeprefix("model."): v for k, v in then[who].items()}, strict=False)
        mine = next(t for t in rows if t.get("writer", "policy") == who)
        ids = torch.tensor([mine["prompt"] + mine["tokens"]])
        with torch.no_grad():
            said = model(ids).logits[0].log_softmax(-1)[len(mine["prompt"]) - 1 : -1]
        found = said.gather(-1, torch.tensor(mine["tokens"])[:, None])[:, 0]
        torch.testing.assert_close(found, torch.tensor(mine["logps"]), rtol=1e-4, atol=1e-4)


def test_an_older_recording_is_the_policys():
    row = dict(row=0, number=0, place=0, prompt=[1], tokens=[2], logps=[0.0], stop="eos", version=0, text="a")
    assert from_line(row).writer == "policy"
    assert "writer" not in line(from_line(row), 0)


def test_killed_in_each_half_it_ends_as_if_nothing_had_been(tmp_path: Path):
    def steps(count: int) -> Any:
        return lambda out: len(lines(out / "metrics.jsonl")) >= count

    def writing(number: int, count: int) -> Any:
        return lambda out: len(lines(out / "rollouts" / f"{number:06d}.jsonl")) >= count

    path = recipe(tmp_path, method=TWO, rollout={"max_rows": 4}, training={"max_steps": 6}, data={"test": 0.5})
    at = [writing(0, 12), steps(1), steps(2), writing(2, 4), writing(2, 12), steps(3), writing(4, 12)]
    assert_no_trace(path, tmp_path, at)


def test_evaluations_are_won_against_the_reference(tmp_path: Path):
    rows = write_rows(tmp_path / "held.jsonl", [{"prompt": p} for p in ("A dog", "He")])
    path = recipe(
        tmp_path, data={"test": rows, "validation": rows}, training={"eval_steps": 4, "load_best_model_at_end": True}
    )
    run = train(path, tmp_path / "run")
    test = told(run / "test.json")
    assert test["before"]["reward"]["rows"] == [0.5, 0.5], "it begins as the reference"
    assert all(row in (0.0, 0.5, 1.0) for row in test["reward"]["rows"])
    assert {"eval/reward", "eval/rewards/cycle", "target_kl", "kl"} <= metrics(run)[-1].keys()
    target = load_file(run / "copies" / "target" / "model.safetensors")
    assert same(target, weights(run)), "a new target ends every second step"
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "Games won against the reference" in page
    adapter = train(path, tmp_path / "adapter", "model.lora={r: 2}", "method.form=two_step", "training.max_steps=4")
    assert told(adapter / "test.json")["before"]["reward"]["rows"] == [0.5, 0.5]
    assert (adapter / "copies" / "target" / "adapter_model.safetensors").exists()
    assert not (adapter / "copies" / "opponent").exists()


# ---- what is refused ------------------------------------------------------------------------------------------------


RATES = "nash_mp takes it for the win rates of one function that compares completions"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("rollout.temperature=0.7",), "rollout.temperature: found 0.7; nash_mp plays a game of the policy as it is"),
        (("rollout.top_p=0.9", "rollout.biased_sampling=true"), "rollout.top_p: found 0.9; nash_mp plays a game"),
        (("reward.functions=[{name: length, settings: {target: 3}}]",), RATES),
        (("reward.functions=[{name: 'our_game:cycle', weight: 2}]",), RATES),
        (("reward.shape=[{name: whiten}]",), RATES),
        (("method.form=two_step", "rollout.engine=vllm"), "rollout.engine: found vllm; nash_mp has opponent write"),
        (("method.form=two_step", "rollout.staleness=1", "rollout.correction=truncate"), "as it is when it is the"),
        (("method.form=two_step", "rollout.num_iterations=3"), "lasts 3 steps, and nash_mp moves weights before"),
        (("model.roles={target: 'asset:stories260k'}",), "target is a copy of the policy, which nash_mp moves"),
    ],
)
def test_what_makes_no_game_is_refused(
    words: tuple[str, ...], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert main(["check", str(recipe(tmp_path)), *words]) == 2
    assert said in capsys.readouterr().err

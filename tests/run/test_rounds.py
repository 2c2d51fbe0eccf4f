"""Runs in rounds: written, judged by a reward model, paired, learned from, and begun again ahead of the solution."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from kills import assert_no_trace
from small_runs import BRIEF, assert_resumes, gap, lines, metrics, same, told, train, weights, write_recipe

from align.cli.main import main
from align.models.load import load_policy
from align.models.settings import ModelSection
from align.models.tokenizer import load_tokenizer
from align.runfolder.fragments import Saved
from align.runfolder.state_files import load_state
from align.training import loop

ROUNDS, LASTING = 3, 4
PLAIN = '''"""DPO in rounds, as one would write it without knowing of any jump: the reference is who wrote."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from align.batches import Rivals, Sampled
from align.methods.base import Loss, OnlineMethod, Term, per_token
from align.needs import BEGIN_AGAIN


@dataclass(frozen=True, kw_only=True)
class Plain(OnlineMethod[Rivals[Sampled]]):
    name = "plain"
    paper = ""
    rounds = True
    correction_levels = ()

    def moves(self):
        return (BEGIN_AGAIN,)

    def advantages(self, rollouts):
        return per_token(rollouts, rollouts.rewards * 0)

    def pairs(self, batch):
        for group in batch.groups.unique():
            rows = (batch.groups == group).nonzero()[:, 0]
            best, worst = rows[batch.rewards[rows].argmax()], rows[batch.rewards[rows].argmin()]
            if batch.rewards[best] > batch.rewards[worst]:
                yield int(best), int(worst)

    def keep(self, rollouts):
        kept = torch.zeros(len(rollouts), dtype=torch.bool)
        for pair in self.pairs(rollouts):
            kept[list(pair)] = True
        return kept

    def loss(self, batch):
        c = batch.completion
        moved = (c.logps - c.old_logps).masked_fill(~c.mask, 0.0).sum(-1)
        against, won = torch.arange(len(batch)), torch.zeros(len(batch), dtype=torch.bool)
        for best, worst in self.pairs(batch):
            against[best], won[best] = worst, True
        return Loss(Term(-F.logsigmoid(0.5 * (moved - moved[against])), won))
'''


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A reward model whose head is drawn: what it likes is arbitrary, and the same each time."""
    folder = tmp_path_factory.mktemp("judge") / "model"
    section = ModelSection(model_name_or_path="asset:stories260k")
    tokenizer = load_tokenizer(section, "scalar")
    torch.manual_seed(1)
    load_policy(section, tokenizer, "scalar", Path()).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture
def ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    (tmp_path / "our_rounds.py").write_text(PLAIN)
    sys.modules.pop("our_rounds", None)
    yield
    sys.modules.pop("our_rounds", None)


def recipe_of(judge: str, method: dict[str, Any]) -> dict[str, Any]:
    """Three rounds of four steps: two passes over two minibatches of four prompts."""
    return {
        "method": method,
        "model": {"model_name_or_path": "asset:stories260k"},
        "data": {"train": "asset:story_openings/train.jsonl", "validation": 0.1, "num_rows": 60, "max_length": 64},
        "rollout": {"num_generations": 3, "num_prompts": 8, "num_iterations": 2, "max_completion_length": 8},
        "reward": {"functions": [{"name": "learned", "settings": {"model": judge}}]},
        "optim": {"learning_rate": 1e-3, "lr_scheduler_type": "linear", "warmup_ratio": 0.5},
        "training": {
            "batch_size": 4, "max_steps": ROUNDS * LASTING, "save_steps": 1, "save_total_limit": 99, "max_eval_rows": 3,
        },
        "logging": BRIEF,
    }  # fmt: skip


@pytest.fixture(scope="module")
def accelerated(judge: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    folder = tmp_path_factory.mktemp("rounds")
    method = {"name": "accelerated_po", "beta": [0.5, 1.0, 2.0], "extrapolation_alpha": 0.4}
    recipe = write_recipe(folder / "recipe.yaml", recipe_of(judge, method))
    return str(recipe), train(recipe, folder / "run")


def at(run: Path, step: int) -> Path:
    return run / "checkpoints" / f"step-{step:06d}"


def written(run: Path) -> dict[str, str]:
    return {p.relative_to(run).as_posix(): p.read_text() for p in sorted((run / "rounds").glob("*/*"))}


# ---- what a round is ------------------------------------------------------------------------------------------------


def test_each_round_begins_again_at_its_jump(accelerated: tuple[str, Path]):
    """A checkpoint of its first step: moments of one step, and a start which is the solution before, not the jump."""
    _, run = accelerated
    for number in range(1, ROUNDS):
        last, first = at(run, number * LASTING), at(run, number * LASTING + 1)
        kept = [load_state(folder / "state-00000.pt")["fragments"] for folder in (last, first)]
        counts = [{float(one["others"]["step"]) for one in of} for of in kept]
        assert counts == [{float(LASTING)}, {1.0}]
        hat, start = Saved(last / "state", 0).whole(), Saved(first / "start", 0).whole("start")
        before = Saved(last / "start", 0).whole("start")
        assert same({n: hat[n] for n in start}, start)
        now = Saved(first / "state", 0).whole()
        jumped = {n: hat[n] + 0.4 * (hat[n] - before[n]) for n in start}
        assert gap({n: now[n] for n in start}, jumped) < 5.01e-4, "the first step of a new Adam, of rate 5e-4"
        assert gap({n: now[n] for n in start}, start) > 1e-3
    last = Saved(at(run, ROUNDS * LASTING) / "state", 0).whole()
    assert all(torch.equal(last[f"model.{n}"], w) for n, w in weights(run).items()), "the last solution is the result"


def test_its_schedule_and_its_beta_are_its_own(accelerated: tuple[str, Path]):
    logged = lines(accelerated[1] / "metrics.jsonl")
    rates = [line["learning_rate"] for line in logged]
    assert rates == rates[:LASTING] * ROUNDS
    assert rates[0] < rates[1]
    assert [line["beta"] for line in logged] == [b for b in (0.5, 1.0, 2.0) for _ in range(LASTING)]
    assert [line.get("num_rounds") for line in logged[::LASTING]] == [0, 1, 2]
    evaluated = [line["step"] for line in logged if "eval/reward" in line]
    assert evaluated == [LASTING * n for n in range(1, ROUNDS + 1)], "at each round's end, with eval_steps 0"
    for line in logged[::LASTING]:
        assert abs(line["ratio"] - 1) < 1e-6, "the reference is the round's start"
        assert line["loss"] == pytest.approx(math.log(2), abs=1e-4)


def test_its_files_are_whole_and_others_can_learn_from_them(accelerated: tuple[str, Path], tmp_path: Path):
    _, run = accelerated
    assert sorted(p.name for p in (run / "rounds").iterdir()) == [f"round-00{n}" for n in (1, 2, 3)]
    for number, folder in enumerate(sorted((run / "rounds").iterdir()), start=1):
        asked, said, pairs = (lines(folder / f"{name}.jsonl") for name in ("prompts", "completions", "pairs"))
        assert [p["number"] for p in asked] == list(range(8 * number - 8, 8 * number))
        assert len(said) == 24
        by_prompt = {p["number"]: p["prompt"] for p in asked}
        for pair in pairs:
            own = [c for c in said if by_prompt[c["number"]] == pair["prompt"]]
            assert pair["chosen_reward"] == max(c["reward"] for c in own)
            assert pair["rejected_reward"] == min(c["reward"] for c in own)
            assert {c["text"] for c in own if c["part"] == "chosen"} >= {pair["chosen"]}
        found = told(folder / "evaluation.json")
        assert found["step"] == number * LASTING
        assert found["reward"]["value"] == lines(run / "metrics.jsonl")[number * LASTING - 1]["eval/reward"]
        assert len(found["reward"]["rows"]) == 3
    words = (f"data.train={folder / 'pairs.jsonl'}", "data.columns={}", "data.validation=0", "data.test=0")
    few = ("training.batch_size=4", "training.num_train_epochs=1", "training.eval_steps=0", "logging.num_completions=0")
    dpo = train("dpo", tmp_path / "dpo", *words, *few, "training.load_best_model_at_end=false")
    assert told(dpo / "data.json")["splits"]["train"]["kept"] == len(pairs)


def test_the_report_has_its_rounds(accelerated: tuple[str, Path]):
    page = (accelerated[1] / "report.html").read_text()
    assert "Reward by round" in page
    assert "Prompts without a pair" in page


def test_without_a_jump_it_is_dpo_in_rounds_bit_for_bit(judge: str, ours: None, tmp_path: Path):
    """So is the first round of any jump."""
    plain = write_recipe(tmp_path / "plain.yaml", recipe_of(judge, {"name": "our_rounds:Plain"}))
    method = {"name": "accelerated_po", "beta": 0.5, "extrapolation_alpha": 0}
    still = write_recipe(tmp_path / "still.yaml", recipe_of(judge, method))
    short = ("training.max_steps=8", "training.save_steps=0")
    one, other = train(plain, tmp_path / "one", *short), train(still, tmp_path / "other", *short)
    assert same(weights(one), weights(other))
    assert written(one) == written(other)
    jump = train(still, tmp_path / "jump", *short, "method.extrapolation_alpha=0.4")
    assert written(jump)["rounds/round-001/pairs.jsonl"] == written(one)["rounds/round-001/pairs.jsonl"]
    assert not same(weights(jump), weights(one))
    shared = metrics(jump)[:LASTING]
    assert [line["loss"] for line in shared] == [line["loss"] for line in metrics(one)[:LASTING]]


# ---- cut at any instant ---------------------------------------------------------------------------------------------


def test_a_resumed_run_is_the_same(accelerated: tuple[str, Path], tmp_path: Path):
    """From a round's end, whose jump is then made; from within a round, whose files are there; and without them."""
    recipe, run = accelerated
    for step, without in ((LASTING, ()), (LASTING + 2, ()), (2 * LASTING, ("rollouts",))):
        assert_resumes(recipe, run, tmp_path, step, without=without)
        assert written(tmp_path / f"cut-{step}") == written(run)


def test_a_run_that_goes_on_elsewhere_takes_its_rounds_along(accelerated: tuple[str, Path], tmp_path: Path):
    recipe, run = accelerated
    other = train(recipe, tmp_path / "other", "--resume", str(at(run, LASTING + 2)))
    assert same(weights(run), weights(other))
    assert written(other) == written(run)


def test_a_jump_that_was_made_before_a_failure_is_not_made_twice(judge: str, tmp_path: Path, monkeypatch: Any):
    """Saved by the failure itself: the weights have jumped, the moments are new, nothing is written yet."""
    folder = tmp_path / "failing"
    folder.mkdir()
    (tmp_path / "judge_of_rounds.py").write_text(
        "from pathlib import Path\n"
        "def judge(prompts, completions, **columns):\n"
        f"    if Path({str(folder / 'now')!r}).exists():\n"
        "        raise ValueError('not now')\n"
        "    return [sum(c in 'aeiou' for c in text) / 10 for text in completions]\n"
    )
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    recipe = recipe_of(judge, {"name": "accelerated_po", "extrapolation_alpha": 0.4})
    recipe |= {"reward": {"functions": ["judge_of_rounds:judge"]}}
    recipe["data"] |= {"validation": 0}
    recipe["training"] = {"batch_size": 8, "max_steps": 4, "save_steps": 0}
    path = write_recipe(tmp_path / "r.yaml", recipe)
    whole = train(path, tmp_path / "whole")
    cut = tmp_path / "cut"
    step, left = loop.train_step, [1, 2]

    def counted(*args: Any) -> Any:
        if left.pop() == 1:
            (folder / "now").touch()  # from the second round on nothing is judged
        return step(*args)

    monkeypatch.setattr(loop, "train_step", counted)
    assert main(["train", str(path), f"training.output_dir={cut}"]) == 1
    assert [p.name for p in (cut / "checkpoints").iterdir()] == ["step-000002"]
    (folder / "now").unlink()
    monkeypatch.setattr(loop, "train_step", step)
    assert main(["train", str(path), f"training.output_dir={cut}", "--resume"]) == 0
    assert same(weights(whole), weights(cut))
    assert metrics(whole) == metrics(cut)


@pytest.mark.parametrize(("name", "signs"), [("accelerated_po", (0, 1, 2, 3, 4)), ("sppo", (2,))])
def test_kills_in_each_phase_leave_no_trace(name: str, signs: tuple[int, ...], judge: str, tmp_path: Path):
    recipe = recipe_of(judge, {"name": name})
    recipe["rollout"]["max_rows"] = 3
    recipe["training"] |= {"max_steps": 2 * LASTING, "save_total_limit": 2}

    def steps(out: Path) -> int:
        file = out / "metrics.jsonl"
        return len(file.read_text().splitlines()) if file.exists() else 0

    instants = (
        lambda out: len(list((out / "rollouts").glob("000000.jsonl"))) == 1,  # writing
        lambda out: (out / "rounds/round-001/pairs.jsonl").exists(),  # judged
        lambda out: steps(out) >= 2,  # learning, in the middle
        lambda out: at(out, LASTING).exists(),  # before the jump
        lambda out: (out / "rounds/round-002/prompts.jsonl").exists(),  # judged, after it
    )
    assert_no_trace(write_recipe(tmp_path / "recipe.yaml", recipe), tmp_path, [instants[i] for i in signs])
    assert written(tmp_path / "whole") == written(tmp_path / "cut")


def test_rounds_may_be_judged_by_who_beats_whom(judge: str, tmp_path: Path):
    """Win rates of all completions, with an even game against itself; one prompt alone is not judged when held out."""
    recipe = recipe_of(judge, {"name": "sppo", "beta": 0.05, "learned": "all", "reward_is": "win_rate"})
    settings = {"scores": "learned", "settings": {"model": judge}}
    recipe |= {"reward": {"functions": [{"name": "win_rate", "settings": settings}]}}
    recipe["training"] |= {"max_steps": 2 * LASTING, "save_steps": 0}
    recipe["optim"]["learning_rate"] = 5e-6  # targets are small
    run = train(write_recipe(tmp_path / "r.yaml", recipe), tmp_path / "run")
    logged = lines(run / "metrics.jsonl")
    first, second = ([line["loss"] for line in logged[at : at + 2]] for at in (0, 2))
    assert sum(second) < sum(first), "the second pass over the same completions"
    assert "eval/reward" not in logged[LASTING - 1]
    assert told(run / "rounds/round-002/evaluation.json")["step"] == 2 * LASTING
    rewards = [c["reward"] for c in lines(run / "rounds/round-001/completions.jsonl")[:3]]
    assert sum(rewards) == pytest.approx(1.5)

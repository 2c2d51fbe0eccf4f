"""Every stored column that a method reads was made by the role that its prefix names, in the run as it is put together;
numbers of completions by the makers that stand beside the type.

Each model beside the policy is made to answer with a number of its own, so that a column says who made it.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from small_runs import BRIEF, FRESH, lines, run, train, write_recipe
from torch import Tensor

from align.assets import asset
from align.cli.entries import entry
from align.cli.main import main
from align.methods.base import find_method
from align.recipe.load import load_recipe
from align.run.parts import Parts
from align.scoring.layout import Rows
from align.scoring.role_table import loaded

STORIES = "asset:stories260k"
SAID = {"ref": -3.0, "guide_ref": -5.0}
METHODS = '''
from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from align.batches import Anchored, Pairs, Referenced, Rollouts, of_completion
from align.methods.base import Loss, OfflineMethod, OnlineMethod, kl_charged, per_token, reinforce_loss, weight

SEEN = []


@dataclass(frozen=True, kw_only=True)
class Guided(Referenced):
    guide_ref_logps: Float[Tensor, "B T"]


@dataclass(frozen=True, kw_only=True)
class Offline(OfflineMethod[Pairs[Guided]]):
    name = "offline"
    paper = ""

    def loss(self, batch):
        SEEN.append(batch)
        return Loss(-batch.chosen.logps.sum(-1))


@dataclass(frozen=True, kw_only=True)
class Weighed(Offline):
    name = "weighed"
    guide_coef: float = weight(0.5, of="guide_ref")

    @classmethod
    def needs(cls):
        return Offline.needs()


@dataclass(frozen=True, kw_only=True)
class AnchoredGuided(Anchored):
    guide_ref_logps: Float[Tensor, "B T"]


@dataclass(frozen=True, kw_only=True)
class Counted(Rollouts[AnchoredGuided]):
    completion: AnchoredGuided
    vowels: Float[Tensor, " B"] = of_completion("vowels", lambda c: sum(c.written.text.count(v) for v in "aeiou"))
    shares: Float[Tensor, " B"] = of_completion("shares", lambda c: c.reward + c.group)


@dataclass(frozen=True, kw_only=True)
class Online(OnlineMethod[Counted]):
    name = "online"
    paper = ""

    kl_coef: float = 0.5

    def advantages(self, rollouts):
        SEEN.append(rollouts)
        return per_token(rollouts, kl_charged(rollouts, self.kl_coef))

    def loss(self, batch):
        return reinforce_loss(batch)
'''
PAIRS = {
    "train": "asset:polite_pairs/train.jsonl", "num_rows": 12, "bad_rows": "drop", "max_length": 512,
    "columns": {"prompt": "{instruction}\n{input}"},
}  # fmt: skip
PROMPTS = {"train": "asset:story_openings/train.jsonl", "num_rows": 8, "max_length": 64}
ROLLOUT = {"num_generations": 2, "max_completion_length": 4}
LENGTH = {"functions": [{"name": "length", "settings": {"target": 3}}]}
ONLINE = {"data": PROMPTS, "rollout": ROLLOUT, "reward": LENGTH}
TRAINING = {"batch_size": 4, "max_steps": 1}


class Constant:
    """Stands for a frozen model: every number that it is asked for is its own."""

    training = False

    def __init__(self, number: float):
        self.number = number

    def train(self, mode: bool = True) -> Any:
        return self

    def __call__(self, rows: Rows, columns: Sequence[str], *options: Any) -> dict[str, Tensor]:
        return {c: torch.full(rows.target.shape, self.number) for c in columns}


@pytest.fixture
def ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The module of the methods from outside; every frozen model says its number."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setattr(Parts, "frozen_model", lambda parts, role: Constant(SAID[role]))
    (tmp_path / "our_roles.py").write_text(METHODS)
    sys.modules.pop("our_roles", None)
    import our_roles  # type: ignore[import-not-found]

    yield our_roles
    sys.modules.pop("our_roles", None)


def recipe_of(method: str, **more: Any) -> dict[str, Any]:
    model = {**FRESH, "roles": {"guide_ref": "asset:stories260k"}}
    return {"method": {"name": method}, "model": model, "data": PAIRS, "training": TRAINING, "logging": BRIEF, **more}


def says(column: Tensor, mask: Tensor) -> set[float]:
    return set(column[mask].tolist())


def test_offline_each_column_is_its_roles(ours: Any, tmp_path: Path):
    run(tmp_path / "run", recipe_of("our_roles:Offline"))
    for member in (ours.SEEN[-1].chosen, ours.SEEN[-1].rejected):
        assert says(member.ref_logps, member.mask) == {SAID["ref"]}
        assert says(member.guide_ref_logps, member.mask) == {SAID["guide_ref"]}


def test_online_each_column_is_its_roles_though_no_knob_weighs_it(ours: Any, tmp_path: Path):
    """And the policy's own before the step, where a hook looks at it."""
    run(tmp_path / "run", recipe_of("our_roles:Online", **ONLINE))
    written = ours.SEEN[-1].completion
    assert says(written.ref_logps, written.mask) == {SAID["ref"]}
    assert says(written.guide_ref_logps, written.mask) == {SAID["guide_ref"]}
    whole = ours.SEEN[-1]
    assert torch.equal(whole.shares, whole.rewards + whole.groups)
    texts = [line["text"] for line in lines(tmp_path / "run" / "rollouts" / "000000.jsonl")]
    assert sorted(whole.vowels.tolist()) == sorted(float(sum(text.count(v) for v in "aeiou")) for text in texts)
    gap = (written.old_logps - written.sampler_logps)[written.mask].abs().max()
    assert gap < 1e-3, "what the policy says of it before the step is what its engine said"


def test_a_role_whose_knobs_are_all_0_is_not_loaded(ours: Any, tmp_path: Path):
    del (recipe := recipe_of("our_roles:Weighed"))["model"]["roles"]
    path = write_recipe(tmp_path / "r.yaml", recipe)
    assert main(["check", str(path)]) == 2
    recipe = load_recipe(path, ["method.guide_coef=0"])
    assert loaded(recipe.method, recipe.model) == ("ref",)
    train(path, tmp_path / "run", "method.guide_coef=0")
    last = ours.SEEN[-1].chosen
    assert torch.equal(last.guide_ref_logps, last.logps.detach()), "repeats the policy's"


@pytest.mark.parametrize("named", [f"model.ref_model_name_or_path={STORIES}", "model.reference=copy"])
def test_a_reference_that_the_recipe_names_is_loaded_whatever_its_knobs_are(named: str):
    bare, asked = load_recipe("grpo", ["method.kl_coef=0"]), load_recipe("grpo", ["method.kl_coef=0", named])
    assert loaded(bare.method, bare.model) == ()
    assert loaded(asked.method, asked.model) == ("ref",)


@pytest.mark.parametrize("name", ["t_ppo", "vc_ppo"])
def test_a_critic_alone_asks_for_no_reference(name: str):
    assert entry(find_method(name)).models == ["critic"]


MISTAKES: list[tuple[tuple[str, str], dict[str, Any], str]] = [
    (("guide_ref_logps", "guide_ref_logps"), {"roles": {}}, "model.roles.guide_ref: missing; "),
    (("guide_ref_logps", "divergences"), {}, "reads a column divergences, which nobody makes"),
    (("guide_ref_logps", "sampler_logps"), {}, "reads sampler_logps, and no engine writes"),
    (("guide_ref_logps", "guide_ref_values"), {}, "reads guide_ref_values, which its guide_ref does not make"),
    (("guide_ref_logps", "guide_ref_entropies"), {"reference": "cached"}, "it makes logps"),
    (("", ""), {"roles": {"guide_ref": STORIES, "guide": "x"}}, "model.roles.guide: offline reads no column"),
    (("", ""), {"roles": {"guide_ref": STORIES, "old": "x"}}, "old is the policy before the step"),
    (("", ""), {"roles": {"guide_ref": "nowhere/at/all"}}, "model.roles.guide_ref: no such folder: nowhere/at/all"),
    (("", ""), {"roles": {"guide_ref": "asset:careless_adder"}}, "model.roles.guide_ref: its vocabulary has 13"),
]


@pytest.mark.parametrize(("change", "model", "told"), MISTAKES)
def test_a_column_that_nobody_makes_and_a_model_that_nobody_reads_are_told(
    change: tuple[str, str], model: dict[str, Any], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):  # fmt: skip
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    (tmp_path / "our_mistakes.py").write_text(METHODS.replace(*change) if change[0] else METHODS)
    sys.modules.pop("our_mistakes", None)
    recipe = recipe_of("our_mistakes:Offline")
    recipe["model"] = {"model_name_or_path": "asset:stories260k", "roles": recipe["model"]["roles"], **model}
    assert main(["check", str(write_recipe(tmp_path / "r.yaml", recipe))]) == 2
    assert told in capsys.readouterr().err
    sys.modules.pop("our_mistakes", None)


def test_a_method_that_learns_online_needs_models_that_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    (tmp_path / "our_target.py").write_text(METHODS.replace("guide_ref_logps", "target_logps"))
    sys.modules.pop("our_target", None)
    recipe = recipe_of("our_target:Online", **ONLINE, model=FRESH)
    assert main(["check", str(write_recipe(tmp_path / "r.yaml", recipe))]) == 2
    assert "model.roles.target: missing" in capsys.readouterr().err
    file = tmp_path / "our_target.py"
    text = file.read_text().replace("Rollouts, of_completion", "Rollouts, from_row, of_completion")
    file.write_text(text.replace('of_completion("shares", lambda c: c.reward + c.group)', 'from_row("shares")'))
    sys.modules.pop("our_target", None)
    assert main(["check", str(tmp_path / "r.yaml")]) == 2
    assert "online reads a number shares of the data row; a completion has none" in capsys.readouterr().err
    sys.modules.pop("our_target", None)


@pytest.fixture
def guide(tmp_path: Path) -> Callable[[float], Path]:
    """A frozen model's folder, whose weights are changed by a number."""
    folder = tmp_path / "guide"
    shutil.copytree(asset("asset:stories260k"), folder)

    def change(by: float) -> Path:
        file = folder / "model.safetensors"
        moved = {n: t + by for n, t in load_file(file).items()}
        save_file(moved, file, metadata={"format": "pt"})
        return folder

    return change


def test_a_role_is_part_of_who_a_run_is(
    guide: Callable[[float], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """Weights and config; cached or not, its numbers are the same."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    (tmp_path / "our_identity.py").write_text(METHODS)
    sys.modules.pop("our_identity", None)
    recipe = recipe_of("our_identity:Offline", model={**FRESH, "roles": {"guide_ref": str(guide(0.01))}})
    recipe["training"] = {"batch_size": 4, "max_steps": 2, "save_steps": 1}
    out = run(tmp_path / "run", recipe)
    import our_identity  # type: ignore[import-not-found]

    seen = our_identity.SEEN[-1].chosen.guide_ref_logps
    run(tmp_path / "cached", recipe, "model.reference=cached")
    assert torch.allclose(our_identity.SEEN[-1].chosen.guide_ref_logps, seen, atol=1e-5)
    again = ["train", str(out.with_suffix(".yaml")), f"training.output_dir={out}", "--resume"]
    shutil.rmtree(out / "final")
    again.append(str(out / "checkpoints" / "step-000001"))
    folder = guide(0.01)
    assert main(again) == 2
    assert "weights" in capsys.readouterr().err
    guide(-0.01)
    config = folder / "config.json"
    config.write_text(config.read_text().replace('"rms_norm_eps": 1e-05', '"rms_norm_eps": 1e-03'))
    assert main(again) == 2
    assert "inputs.roles_guide_ref" in capsys.readouterr().err
    sys.modules.pop("our_identity", None)


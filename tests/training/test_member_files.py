"""What a checkpoint holds of a model of which some does not learn at the moment of saving."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from bench_of_steps import alone, random_groups, rig, tiny_llama
from bench_of_steps import learn as learn_from
from peft import LoraConfig, get_peft_model

from align.errors import UserError
from align.methods.dpo import DPO
from align.methods.sft import SFT
from align.runfolder.state_files import load_state
from align.scoring.score import Kernel
from align.training import snapshot
from align.training.build import make_trainee
from align.training.settings import OptimSection, TrainingSection
from align.training.snapshot import Progress
from align.training.step import Trainee
from align.training.team import Team

LAYER = "model.model.layers.0."


def made(seed: int, model: Any = None) -> Trainee:
    model = model or tiny_llama("lm", seed)
    return make_trainee(model, Kernel("sdpa"), OptimSection(learning_rate=1e-2), TrainingSection(), alone())


def learn(trainee: Trainee, steps: range, rate: float = 1e-2) -> None:
    bench = rig(SFT())
    for step in steps:
        experience = bench.experience(random_groups(SFT(), 4, step))
        learn_from(trainee, bench.method, experience, bench.batching, rate)


def switch(trainee: Trainee, name: str, on: bool) -> None:
    for of, p in trainee.module.named_parameters():
        if of.startswith(name):
            p.requires_grad_(on)


def weights(trainee: Trainee) -> dict[str, torch.Tensor]:
    return {n: p.detach().clone() for n, p in trainee.module.named_parameters()}


def test_a_layer_that_rests_while_a_checkpoint_is_written_is_in_it(tmp_path: Path):
    """It has learned, rests, and learns again after the resume: weights, moments and their counters are its own."""
    one, other = made(0), made(1)
    learn(one, range(2))
    switch(one, LAYER, on=False)
    learn(one, range(2, 3))
    path = snapshot.save(tmp_path, Team({"policy": one}), Progress(step=3))
    switch(other, LAYER, on=False)
    snapshot.restore(path, Team({"policy": other}))
    assert all(torch.equal(p, weights(other)[n]) for n, p in weights(one).items())
    for trainee in (one, other):
        assert not any(p.requires_grad for n, p in trainee.module.named_parameters() if n.startswith(LAYER))
        switch(trainee, LAYER, on=True)
        learn(trainee, range(3, 5))
    assert all(torch.equal(p, weights(other)[n]) for n, p in weights(one).items())


def test_a_layer_that_has_not_learned_yet_gets_no_moments(tmp_path: Path):
    one, other = made(0), made(1)
    for trainee in (one, other):
        switch(trainee, LAYER, on=False)
    learn(one, range(2))
    snapshot.restore(snapshot.save(tmp_path, Team({"policy": one}), Progress(step=2)), Team({"policy": other}))
    for trainee in (one, other):
        switch(trainee, LAYER, on=True)
        learn(trainee, range(2, 4))
    assert all(torch.equal(p, weights(other)[n]) for n, p in weights(one).items())


def names_in(path: Path) -> list[str]:
    return [one["name"] for one in load_state(path / "state-00000.pt")["fragments"]]


def adapted(seed: int) -> Trainee:
    torch.manual_seed(seed)
    model = get_peft_model(tiny_llama("lm", 0), LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False))
    return made(0, model)


def test_an_adapter_saves_its_own_weights_alone_also_where_it_rests(tmp_path: Path):
    one, other = adapted(0), adapted(1)
    learn(one, range(1))
    switch(one, "", on=False)
    path = snapshot.save(tmp_path, Team({"policy": one}), Progress(step=1))
    found = names_in(path)
    assert len(found) == 4
    assert all("lora_" in name for name in found)
    snapshot.restore(path, Team({"policy": other}))
    assert all(torch.equal(p, weights(other)[n]) for n, p in weights(one).items())


def test_a_checkpoint_without_what_moves_is_refused(tmp_path: Path):
    """One that was written while the layer did not count among what changes."""
    less, other = tiny_llama("lm", 0), made(1)
    less.model.layers[0].requires_grad_(False)
    path = snapshot.save(tmp_path, Team({"policy": made(0, less)}), Progress())
    with pytest.raises(UserError, match=r"is of another model: 9 of \d+ trained tensors"):
        snapshot.restore(path, Team({"policy": other}))


def test_every_method_of_pairs_saves_as_before(tmp_path: Path):
    """Where everything learns, everything is saved, once."""
    bench = rig(DPO())
    bench.step(random_groups(DPO(), 4), rate=1e-2)
    folder = snapshot.save(tmp_path, Team({"policy": bench.trainee}), Progress(step=1))
    assert names_in(folder) == [n for n, _ in bench.trainee.module.named_parameters()]


OTHERS = [  # optimiser before, precision and masters; likewise after; whether the moments go on
    (("AdamW", "float32", False), ("Adam", "float32", False), True),
    (("AdamW", "bfloat16", True), ("AdamW", "bfloat16", False), True),
    (("AdamW", "bfloat16", False), ("AdamW", "bfloat16", True), True),
    (("AdamW", "bfloat16", False), ("AdamW", "float32", False), True),
    (("AdamW", "float32", False), ("NAdam", "float32", False), False),
    (("SGD", "float32", False), ("AdamW", "float32", False), True),
    (("Adafactor", "float32", False), ("AdamW", "float32", False), False),
    (("AdamW", "float32", False), ("Adafactor", "float32", False), False),
]


@pytest.mark.parametrize(("before", "after", "goes_on"), OTHERS)
def test_moments_go_on_or_begin_anew_aloud(
    before: tuple[str, str, bool], after: tuple[str, str, bool], goes_on: bool, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
):  # fmt: skip
    """As a resume has it that allows optim.optim, model.dtype or optim.masters to differ."""

    def trainee(optim: str, dtype: str, masters: bool) -> Trainee:
        model = tiny_llama("lm", 0).to(getattr(torch, dtype))
        section = OptimSection(learning_rate=1e-2, optim=optim, masters=masters)
        return make_trainee(model, Kernel("sdpa"), section, TrainingSection(), alone())

    one, other = trainee(*before), trainee(*after)
    learn(one, range(2))
    snapshot.restore(snapshot.save(tmp_path, Team({"policy": one}), Progress(step=2)), Team({"policy": other}))
    assert ("they begin anew" not in capsys.readouterr().out) == goes_on
    state = getattr(other.optimizer, "optimizer", other.optimizer).state
    steps = [int(of["step"]) for of in state.values() if "step" in of]
    assert steps == ([2] * len(steps) if goes_on else [])
    learn(other, range(2, 3))
    assert all(torch.isfinite(p).all() for p in weights(other).values())

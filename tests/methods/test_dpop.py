"""DPO-Positive: DPO while no chosen answer has fallen, and a steep way back where one has."""

from __future__ import annotations

import math

import method_batches as batches
import numpy as np
import pytest
import torch
from bench_of_steps import rig

from align.batches import Group, Tokens
from align.methods.dpo import DPO
from align.methods.dpop import DPOP
from align.methods.sft import SFT


def differentiated(method: DPO | DPOP, tensors: batches.Tensors) -> tuple[float, list[list[float]]]:
    """The loss, and its gradients by the chosen and the rejected log-probabilities."""
    loss = batches.objective(method.loss(batches.build(method.needs(), tensors)))
    leaves = [tensors["chosen.logps"], tensors["rejected.logps"]]
    return float(loss.detach()), [g.flatten().tolist() for g in torch.autograd.grad(loss, leaves)]


def test_by_hand_where_the_chosen_answer_has_fallen() -> None:
    # u_w = -0.5 + 0.25 = -0.25, u_l = -2, so u_w - u_l = 1.75; less 3 * 0.25 = 0.75 it is 1; beta 2 makes 2:
    # loss = log(1 + e^-2) = log(1.1353353) = 0.126928.
    tensors = batches.pairs([[-0.5, 0.25]], [[-1.0, -1.0]])
    loss = DPOP(beta=2.0, lam=3.0).loss(batches.build(DPOP.needs(), tensors))
    assert batches.value(loss) == pytest.approx(0.126928, abs=1e-6)
    assert batches.mean_of(loss, "shortfall") == 0.25
    assert batches.mean_of(loss, "margin") == 3.5  # without the penalty
    assert batches.mean_of(loss, "chosen_rewards") == -0.5
    assert batches.mean_of(loss, "accuracy") == 1.0


def test_by_numpy_on_random_pairs() -> None:
    tensors = batches.random_tensors(DPOP.needs(), rows=9, width=6)
    values = {name: tensor.detach().numpy() for name, tensor in tensors.items()}
    u_w, u_l = (
        np.where(values[f"{m}.mask"], values[f"{m}.logps"] - values[f"{m}.ref_logps"], 0).sum(1)
        for m in ("chosen", "rejected")
    )
    assert (u_w < 0).any()
    assert (u_w > 0).any()
    wanted = np.log1p(np.exp(-0.3 * (u_w - u_l - 1.5 * np.maximum(0, -u_w))))
    found = DPOP(lam=1.5).loss(batches.build(DPOP.needs(), tensors)).terms["loss"].values
    np.testing.assert_allclose(found.detach().numpy(), wanted, rtol=1e-12)


@pytest.mark.parametrize("case", ["lam 0", "no chosen answer has fallen"])
def test_it_is_dpo(case: str) -> None:
    tensors, lam = batches.random_tensors(DPOP.needs(), rows=5, width=4), 0.0
    if case != "lam 0":
        lam = 50.0
        tensors["chosen.ref_logps"] = tensors["chosen.logps"].detach() - 0.1
    assert differentiated(DPOP(beta=0.2, lam=lam), tensors) == differentiated(DPO(beta=0.2), tensors)


def test_a_fallen_answer_is_pulled_up_one_plus_lam_times_as_hard_as_the_other_is_pushed_down() -> None:
    # beta (u_w - u_l - lam 0.1) = 0.5 (-0.1 + 0.2 - 0.7) = -0.3: slope 0.5 sigmoid(0.3) = 0.2872213
    _, (up, down) = differentiated(DPOP(beta=0.5, lam=7.0), batches.pairs([[-0.1, 0.0]], [[-0.2]]))
    assert up == pytest.approx([-8 * 0.2872213] * 2, rel=1e-6)
    assert down == pytest.approx([0.2872213], rel=1e-6)


def test_equal_policy_and_reference_cost_log_two_and_begin_as_dpo_does() -> None:
    tensors = batches.pairs([[0.0, 0.0]], [[0.0]])
    loss, slopes = differentiated(DPOP(), tensors)
    assert loss == pytest.approx(math.log(2), rel=1e-15)
    assert slopes == differentiated(DPO(beta=0.3), tensors)[1]


def _answer(*ids: int) -> Tokens:
    said = np.array(ids, dtype=np.int32)
    return Tokens(np.array([1, 2, 3], dtype=np.int32), said, said > 0)


def test_where_dpo_makes_the_chosen_answer_less_likely_it_does_not() -> None:
    """The paper's world: answers that differ in one token and go on alike, from a policy that knows the right one."""
    chosen, rejected = _answer(5, 9, 10, 11), _answer(6, 9, 10, 11)
    taught = rig(SFT())
    for _ in range(40):
        taught.step([Group((answer,), {}, 0) for answer in (*[chosen] * 9, rejected)], rate=5e-3)
    ends: dict[str, dict[str, float]] = {}
    for method in (DPO(beta=0.3), DPOP()):
        bench = rig(method)
        for model in (bench.model, bench.roles["ref"].model.model):
            model.load_state_dict(taught.model.state_dict())
        for _ in range(20):
            ends[method.name] = bench.step([Group((chosen, rejected), {}, 0)], rate=3e-3).metrics
    assert all(end["accuracy"] == 1.0 for end in ends.values())
    assert ends["dpo"]["chosen_rewards"] < -0.05
    assert ends["dpop"]["chosen_rewards"] > 0
    assert ends["dpop"]["shortfall"] == 0


@pytest.mark.parametrize(("knob", "value"), [("beta", 0.0), ("lam", -1.0)])
def test_wrong_knobs_are_refused(knob: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"dpop\.{knob} is {value}; it must be "):
        DPOP(**{knob: value})

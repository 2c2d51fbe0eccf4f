"""TGDPO by the properties of its page: DPO where the guide says nothing, else a weight for each token."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path

import method_batches as batches
import pytest
import torch
from bench_of_steps import rig
from kills import assert_no_trace
from kills import lines as written
from method_batches import Tensors

from align.batches import Group, Tokens
from align.functional.masked import masked_sum
from align.methods.base import Loss
from align.methods.dpo import DPO
from align.methods.tgdpo import TGDPO

NEEDS = TGDPO.needs()
SMALL = (
    "data.num_rows=40", "data.max_length=128", "data.overlong=cut_completion", "data.test=0.0",
    "training.num_train_epochs=null", "training.max_steps=8", "training.batch_size=4", "training.save_steps=2",
    "training.eval_steps=4", "training.max_eval_rows=4", "logging.num_completions=0", "model.reference=cached",
)  # fmt: skip


def random(seed: int = 0, **columns: torch.Tensor) -> Tensors:
    return batches.random_tensors(NEEDS, rows=4, width=7, seed=seed) | columns


def loss_of(method: TGDPO | DPO, tensors: Tensors) -> Loss:
    return method.loss(batches.build(method.needs(), tensors))


def differentiated(method: TGDPO | DPO, tensors: Tensors) -> tuple[float, dict[str, torch.Tensor]]:
    """The loss, and its gradients by the policy's log-probabilities."""
    leaves = {m: tensors[f"{m}.logps"].detach().clone().requires_grad_() for m in ("chosen", "rejected")}
    total = batches.objective(loss_of(method, {**tensors, **{f"{m}.logps": leaf for m, leaf in leaves.items()}}))
    total.backward()
    return float(total.detach()), {m: leaf.grad for m, leaf in leaves.items() if leaf.grad is not None}


@pytest.mark.parametrize("case", ["alpha 0", "the guide is the reference"])
def test_it_is_dpo_where_the_guide_says_nothing(case: str) -> None:
    tensors, alpha = random(), 0.0
    if case != "alpha 0":
        alpha = 3.0
        tensors |= {f"{m}.guide_logps": tensors[f"{m}.ref_logps"] for m in ("chosen", "rejected")}
    ours, theirs = differentiated(TGDPO(beta=0.3, alpha=alpha), tensors), differentiated(DPO(beta=0.3), tensors)
    assert ours[0] == theirs[0]
    assert all(torch.equal(ours[1][m], theirs[1][m]) for m in theirs[1])


def test_a_constant_reward_of_every_token_scales_the_two_log_ratios() -> None:
    # alpha 0.5, beta 0.2, rhat = 0.2 * 3 = 0.6: f_w = 1.3, f_l = 0.7
    tensors = random()
    tensors |= {f"{m}.guide_logps": tensors[f"{m}.ref_logps"] + 3.0 for m in ("chosen", "rejected")}
    u = {
        m: masked_sum(tensors[f"{m}.logps"] - tensors[f"{m}.ref_logps"], tensors[f"{m}.mask"]).detach()
        for m in ("chosen", "rejected")
    }
    margin = 0.2 * 1.3 * u["chosen"] - 0.2 * 0.7 * u["rejected"]
    loss = loss_of(TGDPO(beta=0.2, alpha=0.5), tensors)
    torch.testing.assert_close(loss.terms["loss"].values.detach(), torch.log1p(torch.exp(-margin)))
    assert batches.mean_of(loss, "chosen_weight") == pytest.approx(1.3)
    assert batches.mean_of(loss, "rejected_weight") == pytest.approx(0.7)


def test_gradients_of_tokens_are_as_their_weights_and_none_reaches_guide_or_reference() -> None:
    tensors = random()
    method = TGDPO(beta=0.3, alpha=0.7)
    _, gradients = differentiated(method, tensors)
    share = 1 - (-loss_of(method, tensors).terms["loss"].values.detach()).exp()  # sigmoid(-m)
    for member, sign in (("chosen", 1), ("rejected", -1)):
        mask = tensors[f"{member}.mask"]
        rewards = 0.3 * (tensors[f"{member}.guide_logps"] - tensors[f"{member}.ref_logps"])
        wanted = -sign * share[:, None] * 0.3 * (1 + sign * 0.7 * rewards) / 4 * mask
        torch.testing.assert_close(gradients[member], wanted)
        assert not gradients[member][~mask].any()


def test_equal_policy_and_reference_cost_log_two_whatever_the_guide_says() -> None:
    tensors = random()
    tensors |= {f"{m}.ref_logps": tensors[f"{m}.logps"].detach() for m in ("chosen", "rejected")}
    method = TGDPO(beta=0.3, alpha=2.0)
    loss, gradients = differentiated(method, tensors)
    assert loss == pytest.approx(math.log(2), rel=1e-12)
    rewards = 0.3 * (tensors["chosen.guide_logps"] - tensors["chosen.ref_logps"])
    wanted = -0.3 * (1 + 2 * rewards) / (2 * 4) * tensors["chosen.mask"]
    torch.testing.assert_close(gradients["chosen"], wanted)


@pytest.mark.parametrize("junk", [1e4, math.inf, math.nan])
def test_what_stands_at_masked_places_does_not_matter(junk: float) -> None:
    tensors = random()
    spoilt = {
        f"{m}.{c}": tensors[f"{m}.{c}"].masked_fill(~tensors[f"{m}.mask"], junk)
        for m in ("chosen", "rejected")
        for c in ("guide_logps", "ref_logps", "logps")
    }
    method = TGDPO(alpha=2.0)
    ours, theirs = differentiated(method, tensors | spoilt), differentiated(method, tensors)
    assert ours[0] == theirs[0]
    assert all(torch.equal(ours[1][m], theirs[1][m]) for m in theirs[1])


def test_swapping_the_answers_and_the_sign_of_alpha_turns_the_margin_round() -> None:
    """The sign of alpha is turned by a guide that says the opposite: f_w of the one is f_l of the other."""
    tensors = random()
    other = {f"{b}.{c}": tensors[f"{a}.{c}"] for a, b in (("chosen", "rejected"), ("rejected", "chosen"))
             for c in ("mask", "logps", "ref_logps", "guide_logps")}  # fmt: skip
    for m in ("chosen", "rejected"):
        other[f"{m}.guide_logps"] = 2 * other[f"{m}.ref_logps"] - other[f"{m}.guide_logps"]
    method = TGDPO(alpha=1.5)
    one, two = (loss_of(method, t).terms["loss"].values.detach() for t in (tensors, other))
    torch.testing.assert_close(torch.exp(-one) + torch.exp(-two), torch.ones_like(one))  # sigmoid(m) + sigmoid(-m)


def test_negative_weights_are_told_and_f_min_takes_them_away() -> None:
    # beta 0.1, alpha 0.5: a log-ratio of the guide of -21 makes f_w = 1 - 0.05 * 21 = -0.05
    tensors = random()
    tensors |= {f"{m}.guide_logps": tensors[f"{m}.ref_logps"].clone() for m in ("chosen", "rejected")}
    tensors["chosen.guide_logps"][:, 1] -= 21.0
    free, held = TGDPO(), TGDPO(f_min=0.0)
    count = sum(int(tensors[f"{m}.mask"].sum()) for m in ("chosen", "rejected"))
    for method in (free, held):
        assert batches.mean_of(loss_of(method, tensors), "negative_weights") == pytest.approx(4 / count)
        assert batches.mean_of(loss_of(method, tensors), "smallest_weight") == pytest.approx(-0.05)
    assert (differentiated(free, tensors)[1]["chosen"][:, 1] > 0).all(), "pushed down in a chosen answer"
    assert not differentiated(held, tensors)[1]["chosen"][:, 1].any()


def test_knobs_out_of_range_are_refused() -> None:
    for knobs in ({"beta": 0.0}, {"alpha": -0.1}, {"alpha": math.inf}, {"f_min": -1.0}, {"f_min": 2.0}):
        with pytest.raises(ValueError, match=f"tgdpo.{next(iter(knobs))} is"):
            TGDPO(**knobs)


def test_where_the_guide_likes_one_token_of_two_that_one_is_learnt() -> None:
    """A known world: chosen answers are `good idle`, rejected ones `bad idle` of the same idle token; a guide that has
    learnt which token matters makes the policy leave the idle one where it was."""
    good, bad, idle = 5, 6, 7

    def tokens(*ids: int) -> Tokens:
        said = torch.tensor(ids, dtype=torch.int32).numpy()
        return Tokens(torch.tensor([1, 2, 3], dtype=torch.int32).numpy(), said, said > 0)

    groups = [Group((tokens(good, idle), tokens(bad, idle)), {}, i) for i in range(4)]
    made = rig(TGDPO(beta=0.5, alpha=1.0), rate=3e-3)
    taught = rig(DPO(beta=0.5), rate=3e-3)
    taught.roles["ref"] = made.roles["ref"] = made.roles["guide"]  # one start for guide and policy
    taught.model.load_state_dict(made.roles["guide"].model.model.state_dict())
    made.model.load_state_dict(taught.model.state_dict())
    for _ in range(20):
        guide_loss = taught.step(groups, 3e-3).metrics
    taught.trainee.module.requires_grad_(False)
    made.roles["guide"] = dataclasses.replace(made.roles["guide"], model=taught.trainee.module)
    first = made.step(groups, 3e-3).metrics
    for _ in range(20):
        last = made.step(groups, 3e-3).metrics
    assert guide_loss["accuracy"] == 1.0
    assert first["guide_accuracy"] == 1.0
    assert first["chosen_weight"] > 1 > first["smallest_weight"] or first["rejected_weight"] > 1
    assert last["loss"] < 0.5 * first["loss"]
    assert last["accuracy"] == 1.0


@pytest.mark.processes
def test_killed_it_goes_on_bitwise(tmp_path: Path) -> None:
    def after(count: int) -> Callable[[Path], bool]:
        return lambda out: len(written(out / "metrics.jsonl")) >= count

    recipe = Path(__file__).parents[2] / "recipes" / "tgdpo.yaml"
    assert_no_trace(recipe, tmp_path, [after(1), after(5)], *SMALL)

"""The golden vectors of two levels: paths of weights, twin and logits by the real step, on losses that are known."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from bench_of_steps import alone
from golden_files import FILES, Checker
from torch import Tensor, nn

from align.batches import Group, Tokens
from align.data.mixture import Mixture
from align.methods.scalebio import ScaleBiO
from align.needs import SOURCE
from align.scoring.experience import Batching, gather_experience
from align.scoring.plan import Limits
from align.training.optim import make_optimizer
from align.training.settings import OptimSection
from align.training.sources import SourceLogits, source_logits
from align.training.step import StepResult, Trainee, train_step
from align.training.team import Team

SGD = OptimSection(optim="SGD")


class Losses(nn.Module):
    """A scorer whose token k has the log-probability -loss_k(w)."""

    def __init__(self, start: Sequence[float]):
        super().__init__()
        self.w = nn.Parameter(torch.tensor([list(start)], dtype=torch.float64))  # a matrix: these have weight decay

    def losses(self) -> Tensor:
        raise NotImplementedError

    def forward(self, rows: Any, columns: Sequence[str], num_chunks: int, temperature: float = 1.0) -> Any:
        return {"logps": -self.losses()[rows.target]}


class Quadratics(Losses):
    """(w - a_i) A_i (w - a_i) / 2 + c_i of each source, and |w - v|^2 / 2 of the trusted row, which comes last."""

    def __init__(self, given: dict[str, Any], start: Sequence[float]):
        super().__init__(start)
        self.at = {k: torch.tensor(given[k], dtype=torch.float64) for k in ("A", "a", "c", "v")}

    def losses(self) -> Tensor:
        away = self.w - self.at["a"]
        own = 0.5 * torch.einsum("ij,ijk,ik->i", away, self.at["A"], away) + self.at["c"]
        return torch.cat([own, 0.5 * (self.w - self.at["v"]).square().sum()[None]])


class Given(Losses):
    """Given losses, each times a parameter of its own, which is 1."""

    def __init__(self, losses: Sequence[float]):
        super().__init__([1.0] * len(losses))
        self.values = torch.tensor(losses, dtype=torch.float64)

    def losses(self) -> Tensor:
        return self.w[0] * self.values


def double(values: Sequence[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def row(token: int, source: int) -> Group:
    one = np.array([token], dtype=np.int32)
    return Group((Tokens(np.zeros(1, dtype=np.int32), one, np.array([True])),), {SOURCE: float(source)}, token)


@dataclasses.dataclass
class World:
    """A policy, its twin and the logits, and the rows of every step."""

    method: ScaleBiO
    team: Team
    rows: list[Group]
    trusted: list[Group]
    max_tokens: int = 1000

    @property
    def logits(self) -> SourceLogits:
        assert self.team.sources is not None
        return self.team.sources

    def step(self, rates: dict[str, float]) -> tuple[StepResult, list[float]]:
        """What the step has told, and the gradient of the logits."""
        known = {"source_names": self.logits.names, "source_weights": self.logits.shares()}
        method = dataclasses.replace(self.method, **known)
        batching = Batching(method.needs(), "padded", Limits(self.max_tokens, 1000), alone())
        streams = {"train": self.rows, "trusted": self.trusted}
        made = {name: gather_experience(batching, rows, {}, method) for name, rows in streams.items()}
        result = train_step(self.team.learners, self.team.lessons(method, rates), made, batching, rates)
        slopes = list(method.source_slopes(result.metrics))
        self.logits.update(slopes, rates["sources"])
        return result, slopes


def learner(module: Losses, optim: OptimSection) -> Trainee:
    return Trainee(module, make_optimizer(module, optim), alone(), 0.0)


def quadratic_world(
    given: dict[str, Any], optim: OptimSection, *, start: dict[str, Any] | None = None, alpha: float | None = None
) -> World:
    start = {"w": given["w0"], "u": given["u0"]} | (start or {})
    learners = {"policy": learner(Quadratics(given, start["w"]), optim)}
    learners["twin"] = learner(Quadratics(given, start["u"]), optim)
    names = [f"source {i}" for i in range(len(given["a"]))]
    logits = source_logits(names, optim, 1.0, torch.float64)
    with torch.no_grad():
        logits.logits.copy_(torch.tensor(start.get("lambda", given["lambda0"]), dtype=torch.float64))
    method = ScaleBiO(alpha=given["alpha"] if alpha is None else alpha)
    rows = [row(i, i) for i in range(len(names))]
    return World(method, Team(learners, sources=logits), rows, [row(len(names), -1)])


def rates_of(given: dict[str, Any], kind: str) -> dict[str, float]:
    named = {"policy": "w", "twin": "u", "sources": "lambda"}
    return {name: given[f"lr_{letter}{kind}"] for name, letter in named.items()}


def walk(world: World, rates: dict[str, float], steps: int) -> dict[str, Tensor]:
    """Everything before each step, and after the last."""
    path: dict[str, list[Any]] = {}

    def note(**values: Any) -> None:
        for name, value in values.items():
            path.setdefault(name, []).append(torch.as_tensor(value, dtype=torch.float64).detach().clone())

    for step in range(steps + 1):
        modules = [learner.module for learner in world.team.learners.values()]
        note(w=modules[0].w[0], u=modules[1].w[0], p=world.logits.shares(), **{"lambda": world.logits.logits})
        result, slopes = world.step(rates if step < steps else dict.fromkeys(rates, 0.0))
        told = result.metrics
        gap = told["sources/loss"] - told["twin/loss"]
        note(L1_w=told["loss"], L2_w=told["sources/loss"], L2_u=told["twin/loss"], grad_lambda=slopes)
        note(penalised_objective=told["loss"] + world.method.alpha * gap)
    return {name: torch.stack(values) for name, values in path.items()}


def check_scalebio(stem: str, name: str, dtype: torch.dtype) -> None:
    """All of it in float64: in float32 AdamW makes whole steps of the rounding of gradients that are nearly 0."""
    content = FILES[stem]
    for problem in ("isotropic", "anisotropic"):
        check_problem(content, content[problem])
    check_weighting(Checker(content, content["source_weighting"], torch.float64))


def check_problem(content: dict[str, Any], problem: dict[str, Any]) -> None:
    given = problem["inputs"]
    adamw = given["adamw"]
    models = OptimSection(weight_decay=adamw["weight_decay_u_w"], adam_epsilon=adamw["eps"])
    paths = {"sgd": (quadratic_world(given, SGD), rates_of(given, "_sgd"))}
    for decay in ("0", "0.01"):  # the second is what our logits never have, and the authors' have
        world = quadratic_world(given, models)
        if decay != "0":
            optimizer = torch.optim.AdamW([world.logits.logits], weight_decay=float(decay))
            world.team.sources = dataclasses.replace(world.logits, optimizer=optimizer)
        paths[f"adamw_lambda_wd_{decay}"] = (world, rates_of(adamw, ""))
    for name, (world, rates) in paths.items():
        tolerance = {"tolerance": {"rtol": 1e-9 if name == "sgd" else 1e-6, "atol": 1e-9 if name == "sgd" else 1e-6}}
        check = Checker(tolerance, problem[name], torch.float64)
        path = walk(world, rates, given["iterations"])
        for field in problem[name]:
            check.equal(field, path[field][: len(problem[name][field])])
        check.done()
    check_rest(given, {k: v for k, v in problem.items() if k not in paths and k != "inputs"})


def check_rest(given: dict[str, Any], expected: dict[str, Any]) -> None:
    """Where twenty thousand steps end nothing moves any more; the two levels' own optimum is near it."""
    for alpha in (10.0, 100.0):
        rest = expected[f"exact_penalised_alpha_{alpha:g}"]
        start = {"w": rest["w"], "u": rest["u"], "lambda": double(rest["p"]).log().tolist()}
        world = quadratic_world(given, SGD, start=start, alpha=alpha)
        result, slopes = world.step({"policy": 0.1, "twin": 0.1, "sources": 0.0})
        assert result.grad_norm < 1e-9 * alpha
        assert result.metrics["twin_grad_norm"] < 1e-9 * alpha
        assert max(map(abs, slopes)) < 1e-9 * alpha
    reached, rest = expected["sgd_after_20000_iterations"], expected["exact_penalised_alpha_10"]
    for name, values in reached.items():
        torch.testing.assert_close(double(values), double(rest[name]), rtol=1e-8, atol=1e-8)
    if "closed_form_p1" in expected:
        (one, other), v = torch.tensor(given["a"], dtype=torch.float64), double(given["v"])
        p1 = float((v - other) @ (one - other) / (one - other).square().sum())
        assert abs(p1 - expected["closed_form_p1"]) < 1e-12
        assert all(abs(rest["p"][0] - p1) < 1e-9 for rest in expected.values() if isinstance(rest, dict))


def check_weighting(check: Checker) -> None:
    """Counts are those of the whole step, in whatever micro-batches its rows stand."""
    given = check.expected["inputs"]
    losses, sources = given["per_example_loss"], given["source"]
    logits = source_logits(["a", "b", "c"], SGD, 0.0, torch.float64)
    with torch.no_grad():
        logits.logits.copy_(torch.tensor(given["lambda"], dtype=torch.float64))

    def world_of(numbers: Sequence[int], max_tokens: int) -> World:
        learners = {"policy": learner(Given(losses), SGD), "twin": learner(Given([0.0] * len(losses)), SGD)}
        rows, method = [row(i, sources[i]) for i in numbers], ScaleBiO(alpha=1.0)
        return World(method, Team(learners, sources=logits), rows, [row(0, -1)], max_tokens)

    world = world_of(range(8), 8)  # four rows of two tokens at a time
    module = world.team.policy.module
    result, slopes = world.step({"policy": 1.0, "twin": 0.0, "sources": 0.0})
    moved = (1 - module.w[0]).detach() / module.values
    moved[0] -= 1.0  # the trusted row's, which is a row of a source here
    check.equal("p", double(world.logits.shares()))
    check.equal("example_weight_global_counts", moved)
    check.equal("weighted_loss_global_counts", result.metrics["sources/loss"])
    check.equal("grad_lambda_global_counts", double(slopes))
    check.equal("per_source_mean_loss", double([result.metrics[f"sources/{n}"] for n in "abc"]))
    still = {"policy": 0.0, "twin": 0.0, "sources": 0.0}
    parts = [world_of(numbers, 1000).step(still)[0].metrics["sources/loss"] for numbers in given["micro_batches"]]
    check.equal("weighted_loss_per_micro_batch_counts", double(parts))
    check.equal("average_of_micro_batch_losses", sum(parts) / 2)
    drawn = Mixture(sizes=(8000, 8000, 4000), weights=world.logits.shares(), seed=0).shares()
    wanted = check.expected["sample_counts_for_20000"]
    assert all(0 <= ours - theirs <= 1 for ours, theirs in zip(drawn, wanted, strict=True))
    check.left -= {"inputs", "sample_counts_for_20000"}
    check.done()


LEVEL_CHECKS = {("scalebio", ""): check_scalebio}

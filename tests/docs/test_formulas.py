"""The formula on each method's page is what the method computes: its value and its gradient.

The page itself is read: its equations, over what it says that the loss is averaged, and which symbol it says is which
knob. What it says in words alone, such as which completions are learned from, is told by `formula_batches`.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import method_batches as batches
import pytest
import torch
from formula_batches import Told, batch_of, told_of, world_of
from formula_reader import IN_WORDS, Reader, signs_of
from formula_world import Answer, World
from formulas import FUNCTIONS, LOSS, Formulas

from align.methods.base import Method, find_method, method_names
from align.methods.scalebio import ScaleBiO
from docs.generate.symbols import shared

PAGES = Path(__file__).parents[2] / "docs/pages/methods"
BLOCK = re.compile(r"\$\$(.*?)\$\$", re.DOTALL)
OVER = ("pairs", "answers", "completions", "all tokens of the step", "all pairs of completions")
AVERAGED = re.compile(rf"^Averaged over ({'|'.join(OVER)})\b", re.MULTILINE)
KNOB = re.compile(r"\$([^$]+)\$\s+(?:is|=)\s+`(\w+)`")
WITH = re.compile(r"With `(\w+: \w+)`")
READ = {*FUNCTIONS, r"\mathrm{mean}", r"\mathrm{std}", r"\mathcal{L}", "e", "i", "j", "t", "s", "y"}
NO_SYMBOLS = {r"\frac", r"\sum", r"\prod", r"\ge", r"\ne", r"\in"}
GAME = "scalebio"  # no loss, but a game of three: its own test is below
NEAR = {"clip_range": 0.05}  # so that a part of the ratios is outside
BOTH = {"clip_low": 0.05, "clip_high": 0.1}

CASES: list[tuple[str, dict[str, Any]]] = [
    ("accelerated_po", {"beta": 0.7}),
    ("accelerated_po", {"beta": 0.7, "inner": "ipo"}),
    ("accelerated_po", {"beta": 0.7, "inner": "sppo"}),
    ("apa", {"apa_lambda": 0.4, "gamma": 0.9}),
    ("apa", {"objective": "weighted", "kappa": 0.7}),
    ("cdpo", {}),
    ("cispo", {"ratio_lower_bound": 0.9, "ratio_upper_bound": 1.1}),
    ("d3s", {**NEAR, "first_completions": 0.75, "first_tokens": 0.5}),
    ("dapo", BOTH),
    ("dft", {}),
    ("dpo", {}),
    ("dpop", {"lam": 1.5}),
    ("dr_grpo", {**NEAR, "constant_length": 7}),
    ("grpo", {**NEAR, "kl_coef": 0.5}),
    ("grpo", {**NEAR, "kl_coef": 0.5, "unbiased_kl": True}),
    ("grpo", {**NEAR, "kl_coef": 0.5, "aggregation": "token_mean"}),
    ("gspo", {"clip_low": 0.02, "clip_high": 0.03}),
    ("hinge", {"beta": 0.3}),
    ("ipo", {"beta": 0.3}),
    ("ipo", {"beta": 0.3, "aggregation": "sum"}),
    ("kto", {"desirable_weight": 1.5, "undesirable_weight": 0.7}),
    ("loop", {**NEAR, "smallest_advantage": 0.4}),
    ("loop", {"ratio_of": "completion"}),
    ("nash_mp", {**NEAR, "eta": 0.7}),
    ("opd", NEAR),
    ("orpo", {"lam": 0.4}),
    ("p3o", {"max_weight": 1.2}),
    ("p3o", {"clip": "separate", "max_weight": 1.2}),
    ("p3o", {**NEAR, "clip": "token", "max_weight": 1.2}),
    ("ppo", {**NEAR, "gamma": 0.9}),
    ("psft", {"clip_high": 0.3}),
    ("raft", {}),
    ("rebel", {"eta": 0.6, "kl_coef": 0.4}),
    ("reinforce", {"kl_coef": 0.4, "reward_sum": 6.0, "num_rewards": 4.0}),
    ("reinforce_pp", {**NEAR, "kl_coef": 0.4}),
    ("remax", {"kl_coef": 0.4}),
    ("reward_model", {"label_smoothing": 0.1, "center_coef": 0.2}),
    ("rloo", {**NEAR, "kl_coef": 0.4}),
    ("robust", {}),
    ("scaf_grpo", NEAR),
    ("sft", {}),
    ("sft", {"aggregation": "sequence_mean"}),
    ("sft", {"aggregation": "sequence_sum"}),
    ("simpo", {}),
    ("spo", {"epsilon": 0.1, "gamma": 0.9}),
    ("sppo", {"beta": 0.3}),
    ("sppo", {"beta": 0.3, "learned": "all"}),
    ("t_ppo", {**BOTH, "gamma": 0.9}),
    ("tgdpo", {"alpha": 0.7}),
    ("vc_ppo", {**BOTH, "nll_coef": 0.3, "gamma": 0.9, "lam_critic": 0.8}),
    ("vineppo", {**NEAR, "kl_coef": 0.5}),
]


@dataclass(frozen=True)
class Shown:
    """A page: its equations, those that replace some where a knob is set, over what is averaged, and its knobs."""

    name: str

    @property
    def text(self) -> str:
        return (PAGES / f"{self.name}.md").read_text(encoding="utf-8")

    def blocks(self, knobs: Mapping[str, Any]) -> list[str]:
        asked = {"", *(f"{knob}: {'true' if value is True else value}" for knob, value in knobs.items())}
        found, case = list[str](), ""
        for place, part in enumerate(BLOCK.split(self.text)):
            if place % 2 and case in asked:
                found.append(part)
            case = (WITH.findall(part) or [case])[-1]
        return found

    @property
    def averaged(self) -> str:
        return found[1] if (found := AVERAGED.search(self.text)) else ""

    def knobs(self, method: Method[Any]) -> dict[str, float]:
        found = {spelled(symbol): getattr(method, knob) for symbol, knob in KNOB.findall(self.text)}
        return {symbol: float(value) for symbol, value in found.items()}


def spelled(symbol: str) -> str:
    """The name of a symbol with all that stands at it."""
    name, indices = Reader(signs_of(symbol), None).name()
    return f"{name}_{''.join(indices)}" if indices else name


def names(latex: str) -> set[str]:
    """The symbols of a formula, without their indices."""
    signs, found, at = signs_of(re.sub(r"\\(begin|end)\{\w+\}|\\q?quad", " ", latex)), set[str](), 0
    while at < len(signs):
        reader = Reader(signs[at:], None)
        if signs[at].isalpha() or signs[at] in IN_WORDS or (signs[at][1:].isalpha() and signs[at] not in NO_SYMBOLS):
            found.add(reader.name()[0])
            at += reader.at
        else:
            at += 1
    return found


def units(averaged: str, formulas: Formulas, told: Told) -> Iterator[dict[str, Any]]:
    """What a loss is averaged over, one after the other; once nothing where the equation says it all."""
    world = formulas.world
    if averaged in ("completions", "all pairs of completions") and not formulas.equations[LOSS].parameters:
        averaged = ""
    if averaged == "pairs":
        offline = [(Answer("chosen", row), Answer("rejected", row)) for row in told.rows]
        online = [(world.answer(best), world.answer(worst)) for best, worst in told.pairs]
        yield from ({"y_l": worse, "y_w": better} for better, worse in online or offline)
    elif averaged == "all pairs of completions":
        yield from ({"i": i, "j": j} for i, j in product(told.rows, told.rows) if i != j and j in world.prompt(i))
    elif averaged == "all tokens of the step":
        yield from ({"t": token} for row in told.rows for token in world.tokens(world.answer(row)))
    else:
        yield from [{"i": row, "y": world.answer(row)} for row in told.rows] if averaged else [{}]


@pytest.mark.parametrize(("name", "knobs"), CASES, ids=[f"{name} {knobs}" for name, knobs in CASES])
def test_what_a_page_shows_is_what_is_computed(name: str, knobs: dict[str, Any]) -> None:
    method: Any = find_method(name)(**knobs)
    page, batch = Shown(name), batch_of(method)
    told = told_of(method, batch)
    world = world_of(method, batch, told, page.knobs(method))
    formulas = Formulas(page.blocks(knobs), world)
    shown = torch.stack([formulas.loss(**unit) for unit in units(page.averaged, formulas, told)]).mean()

    learned = batch.select(torch.tensor(told.rows))
    if name == "d3s":  # it leaves out tokens, not rows
        learned = dataclasses.replace(batch, completion=dataclasses.replace(batch.completion, mask=method.keep(batch)))
    computed = batches.objective(method.loss(learned))
    torch.testing.assert_close(shown, computed, rtol=1e-6, atol=1e-9)
    leaves = [c for m in method.needs().members for c in vars(getattr(batch, m)).values() if c.requires_grad]
    slopes = [torch.autograd.grad(v, leaves, allow_unused=True, materialize_grads=True) for v in (shown, computed)]
    torch.testing.assert_close(*slopes, rtol=1e-6, atol=1e-9)
    assert any(slope.abs().max() > 0 for slope in slopes[0])


def test_every_method_has_a_case() -> None:
    assert {name for name, _ in CASES} | {GAME} == set(method_names())


def test_scalebio_moves_its_sources_by_the_gradient_of_its_page() -> None:
    """From logits that are no softmax yet to what the method gives its optimiser."""
    logits, gaps = torch.tensor([0.3, -1.0, 0.7], dtype=torch.float64), [0.2, 0.5, -0.4]
    names = ("a", "b", "c")
    method = ScaleBiO(alpha=3.0, source_names=names, source_weights=tuple(logits.softmax(0).tolist()))
    page = Shown(GAME)
    lengths = {Answer("completion", row): 0 for row in range(3)}
    known = {r"\lambda": logits, "D": gaps}
    world = World(lengths, groups=[0, 0, 0], rows=range(3), of_rows=known, numbers=page.knobs(method))
    formulas = Formulas(page.blocks({}), world)
    del formulas.equations["D"]  # a difference of losses, which a run tells
    told = {f"sources/{name}": 1.0 + gap for name, gap in zip(names, gaps, strict=True)}
    found = method.source_slopes(told | {f"twin/{name}": 1.0 for name in names})
    assert [float(formulas.value("g", j=row)) for row in range(3)] == pytest.approx(found, rel=1e-12)


@pytest.mark.parametrize("name", method_names())
def test_every_symbol_is_explained(name: str) -> None:
    """By an equation of the page, in its words, or in the list of symbols that is made for it."""
    text = Shown(name).text
    blocks, words = BLOCK.findall(text), BLOCK.sub("", text)
    equations = Formulas(blocks, World({}, [], [])).equations
    told = {name for part in (*re.findall(r"\$([^$]+)\$", words), *shared(text)) for name in names(part)}
    assert {name for block in blocks for name in names(block)} - told - READ - {*equations} == set()


def test_a_symbol_that_nothing_explains_is_told() -> None:
    with pytest.raises(ValueError, match=r"nothing says what \\tau is"):
        Formulas([r"\mathcal{L} = 2 \tau"], World({}, [], [])).loss()
    with pytest.raises(ValueError, match=r"\) is missing"):
        Formulas([r"\mathcal{L} = (1 + 2"], World({}, [], [])).loss()
    assert float(Formulas([r"\mathcal{L} = -\frac{1 + 3}{2}^2 + |2 - 5|"], World({}, [], [])).loss()) == -1

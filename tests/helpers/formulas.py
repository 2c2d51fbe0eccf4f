"""The equations of a page, computed: LaTeX in, numbers with gradients out.

Only the signs that pages of methods use are known (`formula_reader`). An index stands for a thing: `i` and `j` for
rows of the batch, `t` and `s` for tokens, `y` for an answer. A symbol that neither an equation of the page nor the
`World` explains is an error.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from formula_reader import Reader, Value, signs_of
from formula_world import Answer, Token, World, number
from torch import Tensor

LOSS = r"\mathcal{L}"


def _clip(value: Tensor, low: Tensor, high: Tensor) -> Tensor:
    return torch.minimum(torch.maximum(value, low), high)


FUNCTIONS: dict[str, Callable[..., Tensor]] = {
    r"\log": torch.log, r"\sigma": torch.sigmoid, r"\max": torch.maximum, r"\min": torch.minimum,
    r"\mathrm{clip}": _clip, r"\mathrm{sg}": torch.detach,
}  # fmt: skip


@dataclass(frozen=True)
class Scope:
    """What is bound where an expression is read."""

    world: World
    names: tuple[tuple[str, Any], ...] = ()
    answer: Answer | None = None
    token: Token | None = None

    def bind(self, name: str, thing: Any) -> Scope:
        others = (pair for pair in self.names if pair[0] != name)
        bound = replace(self, names=tuple(sorted((*others, (name, thing)), key=lambda pair: pair[0])))
        if isinstance(thing, Token):
            here = replace(bound, answer=thing.answer, token=thing)
            return here if self.find("i") in (None, thing.answer.row) else here.bind("i", thing.answer.row)
        return replace(bound, answer=thing if isinstance(thing, Answer) else self.world.answer(thing))

    def find(self, name: str) -> Any:
        return dict(self.names).get(name)

    def here(self, index: str) -> Any:
        """What an index means that is not written."""
        found = self.find(index)
        if found is not None:
            return found
        assert self.answer is not None
        return self.token if index in "ts" else self.answer.row


@dataclass(frozen=True)
class Equation:
    """What a symbol of these indices, or of these arguments, is."""

    parameters: tuple[str, ...]
    signs: tuple[str, ...]


class Formulas:
    """Those of some blocks; where two define a symbol the later one counts."""

    def __init__(self, blocks: Sequence[str], world: World):
        self.world = world
        self.equations: dict[str, Equation] = {}
        self.known: dict[Any, Any] = {}
        for statement in (part for block in blocks for part in re.split(r"\\q?quad", block)):
            left, equals, right = statement.strip().rstrip(",.").partition("=")
            if equals:
                name, parameters = _defined(left)
                self.equations[name] = Equation(parameters, tuple(signs_of(right)))

    def loss(self, **bound: Any) -> Tensor:
        return self.value(LOSS, **bound)

    def value(self, name: str, **bound: Any) -> Tensor:
        scope = Scope(self.world)
        for index, thing in bound.items():
            scope = scope.bind(index, thing)
        return number(self.symbol(name, (), scope))

    # ---- what the reader asks

    def is_name(self, name: str) -> bool:
        return name in ("y_w", "y_l") or name in self.world.numbers or name in self.world.of_rows

    def takes_arguments(self, name: str) -> bool:
        of_answer = name in self.equations and "y" in self.equations[name].parameters
        return of_answer or name in FUNCTIONS or name in self.world.policies

    def symbol(self, name: str, indices: tuple[Any, ...], scope: Scope) -> Any:
        world, bound = self.world, scope.find(name)
        if name == "y" and indices:  # y_t is a token, y_i the completion of a row, y_{i,t} a token of it
            return indices[-1] if isinstance(indices[-1], Token) else world.answer(indices[-1])
        if bound is not None:
            return bound
        if indices and world.is_beyond(indices[-1]):
            after, answer = f"{name}_{{n+1}}", indices[-1].answer
            last = scope.bind("n", Token(answer, world.lengths[answer]))
            return self._solved(after, (), last) if after in self.equations else number(0.0)
        if name in self.equations:
            return self._solved(name, indices, scope)
        for known in (world.numbers, world.sets):
            if name in known:
                return known[name]
        if name in world.of_tokens:
            return world.of_tokens[name](indices[-1] if indices else scope.here("t"))
        if name in world.of_rows:
            return world.of_rows[name][indices[0] if indices else scope.here("i")]
        raise ValueError(f"nothing says what {name} is")

    def call(self, name: str, arguments: Sequence[Value], scope: Scope) -> Any:
        given = [argument(scope) for argument in arguments]
        if name in self.world.policies:
            tokens = [given[0]] if isinstance(given[0], Token) else self.world.tokens(given[0])
            return torch.stack([self.world.policies[name](token) for token in tokens]).sum().exp()
        if name in self.equations:
            return self._solved(name, tuple(given), scope)
        return FUNCTIONS[name](*map(number, given))

    def spread(self, how: str, name: str, argument: Value, scope: Scope) -> Tensor:
        """Of what rows have over the completions of a prompt, of what tokens have over all tokens."""
        of_tokens = name in self.equations and self.equations[name].parameters == ("t",)
        if of_tokens:
            key, scopes = (how, name), [scope.bind("t", token) for token in self.world.all_tokens()]
        else:
            rows = self.world.prompt(scope.here("i"))
            key, scopes = (how, name, rows[0]), [scope.bind("i", row) for row in rows]
        if key not in self.known:
            values = torch.stack([number(argument(scope)) for scope in scopes])
            correction = int(self.world.unbiased or not of_tokens)
            self.known[key] = values.mean() if "mean" in how else values.std(correction=correction)
        return self.known[key]

    def _solved(self, name: str, given: tuple[Any, ...], scope: Scope) -> Any:
        equation = self.equations[name]
        given = given or tuple(scope.here(parameter) for parameter in equation.parameters)
        for parameter, thing in zip(equation.parameters, given, strict=True):
            scope = scope.bind(parameter, thing)
        key = (name, scope.names, scope.answer, scope.token)
        if key not in self.known:
            self.known[key] = Reader(equation.signs, self).whole()(scope)
        return self.known[key]


def _defined(left: str) -> tuple[str, tuple[str, ...]]:
    """A_{i,t} is A, of i and t; u(y) is u, of y; V_{n+1} is a symbol of its own."""
    reader = Reader(signs_of(left), None)
    name, indices = reader.name()
    if indices == ["n", "+", "1"]:
        return f"{name}_{{n+1}}", ()
    return name, tuple(sign for sign in (*indices, *reader.rest()) if sign not in "(,)")

"""Reads one expression of LaTeX, from left to right, as a function of what is bound: see `formulas`."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import torch
from formula_world import Answer, Token, number
from torch import Tensor

Value = Callable[[Any], Any]  # of a scope

SIGNS = re.compile(r"\\text\{[^}]*\}|\\\\|\\[a-zA-Z]+|\\.|\d+(?:\.\d+)?|\S")
SPACES = {r"\,", r"\;", r"\left", r"\right"}
ENDS = {"", ")", "]", "}", ",", "+", "-", "&", r"\\", ">", r"\in", r"\end"}
CLOSED_BY = {"(": ")", "[": "]"}
IN_WORDS = (r"\mathrm", r"\mathcal", r"\hat")  # what they stand before is one sign with them


def signs_of(text: str) -> list[str]:
    return [sign for sign in SIGNS.findall(text) if sign not in SPACES]


class Reader:
    """Sums of products of powers, and what they are made of. `page` says what symbols are."""

    def __init__(self, signs: Sequence[str], page: Any):
        self.signs, self.page, self.at, self.in_bars = list(signs), page, 0, False

    def whole(self) -> Value:
        value = self.sum()
        if self.rest():
            raise ValueError(f"what is {' '.join(self.rest())} in {' '.join(self.signs)}?")
        return value

    def rest(self) -> list[str]:
        return self.signs[self.at :]

    def peek(self) -> str:
        return self.signs[self.at] if self.at < len(self.signs) else ""

    def take(self, wanted: str = "") -> str:
        found = self.peek()
        if not found or (wanted and found != wanted):
            raise ValueError(f"{wanted or 'more'} is missing before {' '.join(self.rest())} in {' '.join(self.signs)}")
        self.at += 1
        return found

    def group(self) -> list[str]:
        """The signs of a group in braces, or the one sign that is not in any."""
        if self.peek() != "{":
            first = self.take()
            return [first, "{", *self.group(), "}"] if first in IN_WORDS else [first]
        self.take("{")
        found: list[str] = []
        while self.peek() != "}":
            found += ["{", *self.group(), "}"] if self.peek() == "{" else [self.take()]
        self.take("}")
        return found

    def inside(self) -> Value:
        """The value of a group in braces."""
        return Reader(self.group(), self.page).whole()

    def name(self) -> tuple[str, list[str]]:
        """A symbol with what belongs to its name, and the signs of its indices."""
        name, indices = "".join(self.group()), list[str]()
        while self.peek() in ("_", "^"):
            before, sort = self.at, self.take()
            found = self.group()
            whole = f"{name}{sort}{''.join(found)}"
            if found[0] in IN_WORDS or found in (["+"], ["-"]) or (self.page and self.page.is_name(whole)):
                name = whole
            elif sort == "_":
                indices = found
            else:
                self.at = before
                break
        return name, indices

    # ---- expressions

    def sum(self) -> Value:
        total = self._signed(self.peek())
        while self.peek() in ("+", "-"):
            total = _added(total, self._signed(self.peek()))
        return total

    def _signed(self, sign: str) -> Value:
        if sign in ("+", "-"):
            self.take()
        return _negative(self.product()) if sign == "-" else self.product()

    def product(self) -> Value:
        product = self.power()
        while self.peek() not in ENDS and not (self.peek() == "|" and self.in_bars):
            if self.peek() == "/":
                self.take()
                product = _divided(product, self.power())
            else:
                product = _multiplied(product, self.power())
        return product

    def power(self) -> Value:
        base = self.factor()
        while self.peek() == "^":
            self.take()
            base = _raised(base, self.inside())
        return base

    def factor(self) -> Value:
        sign = self.peek()
        made = {
            r"\frac": self.fraction, r"\begin": self.cases, r"\sum": self.over, r"\prod": self.over,
            "(": self.bracket, "[": self.bracket, "|": self.size,
        }  # fmt: skip
        if sign in made:
            return made[sign]()
        if sign[:1].isdigit():
            return _constant(float(self.take()))
        if self.rest()[:2] == ["e", "^"]:
            self.take(), self.take()
            exponent = self.inside()
            return lambda scope: number(exponent(scope)).exp()
        return self.symbol()

    def fraction(self) -> Value:
        self.take()
        above = self.inside()
        return _divided(above, self.inside())

    def bracket(self) -> Value:
        (value,) = self.listed()
        return value

    def listed(self) -> list[Value]:
        """What stands in brackets, between commas."""
        close, outside = CLOSED_BY[self.take()], self.in_bars
        self.in_bars = False
        found = [self.sum()]
        while self.peek() == ",":
            self.take()
            found.append(self.sum())
        self.take(close)
        self.in_bars = outside
        return found

    def size(self) -> Value:
        """|y| is the length of an answer, |S| that of a set, otherwise it is an absolute value."""
        self.take("|")
        self.in_bars = True
        inside = self.sum()
        self.in_bars = False
        self.take("|")

        def measured(scope: Any) -> Any:
            value = inside(scope)
            if isinstance(value, Answer):
                return scope.world.lengths[value]
            return len(value) if isinstance(value, list) else number(value).abs()

        return measured

    def symbol(self) -> Value:
        page, (name, raw) = self.page, self.name()
        if name in (r"\mathrm{mean}", r"\mathrm{std}"):
            of = Reader(self.rest()[1:], page).name()[0]
            (argument,) = self.listed()
            return lambda scope: page.spread(name, of, argument, scope)
        if page.takes_arguments(name):
            arguments = self.listed() if self.peek() in CLOSED_BY else [self.power()]
            return lambda scope: page.call(name, arguments, scope)
        indices = [Reader(signs_of(part), page).whole() for part in " ".join(raw).split(",") if part]
        return lambda scope: page.symbol(name, tuple(index(scope) for index in indices), scope)

    def cases(self) -> Value:
        self.take(), self.group()
        rows: list[tuple[Value, Value]] = []
        while self.peek() != r"\end":
            value = self.sum()
            self.take("&")
            rows.append((value, self.condition()))
            if self.peek() == r"\\":
                self.take()
        self.take(), self.group()
        return lambda scope: next(value(scope) for value, holds in rows if holds(scope))

    def condition(self) -> Value:
        """In words that the world knows, or whether a token is of an answer."""
        if self.peek().startswith(r"\text"):
            said = self.take().removeprefix(r"\text{").removesuffix("}")
            return lambda scope: scope.world.says[said](scope)
        token = self.sum()
        self.take(r"\in")
        answer = self.sum()
        return lambda scope: token(scope).answer == answer(scope)

    # ---- sums and products over something

    def over(self) -> Value:
        sort = self.take()
        self.take("_")
        names, things = self.domain(self.group())
        body = self.product()

        def total(scope: Any) -> Tensor:
            values = [torch.full((), float(sort == r"\prod"), dtype=torch.float64)]
            for thing in things(scope):
                inside = scope
                for name, part in zip(names, thing if isinstance(thing, tuple) else (thing,), strict=True):
                    inside = inside.bind(name, part)
                values.append(number(body(inside)))
            return torch.stack(values).prod() if sort == r"\prod" else torch.stack(values).sum()

        return total

    def domain(self, signs: list[str]) -> tuple[list[str], Callable[[Any], Sequence[Any]]]:
        """The indices, and what they go through: (i,t) in S, s >= t, j other than i, or all that there are."""
        relation = next((sign for sign in signs if sign in (r"\in", r"\ge", r"\ne")), "")
        if not relation:
            return signs, lambda scope: _all(signs[0], scope)
        names, right = signs[: signs.index(relation)], Reader(signs[signs.index(relation) + 1 :], self.page).whole()

        def things(scope: Any) -> Sequence[Any]:
            world, other = scope.world, right(scope)
            if relation == r"\ge":
                return world.tokens(other.answer)[other.place - 1 :]
            if relation == r"\ne":
                return [row for row in world.prompt(other) if row != other]
            return world.tokens(other) if isinstance(other, Answer) else other

        return [name for name in names if name not in "(,)"], things


def _all(index: str, scope: Any) -> Sequence[Any]:
    """t: the tokens of the answer; j: the completions of its prompt; i: the rows that are learned from."""
    if index in "ts":
        return scope.world.tokens(scope.answer)
    return scope.world.prompt(scope.answer.row) if index == "j" else scope.world.rows


def _constant(value: float) -> Value:
    return lambda scope: value


def _added(left: Value, right: Value) -> Value:
    def added(scope: Any) -> Any:
        """Tokens can be counted on, t + 1, and have a distance, s - t."""
        a, b = left(scope), right(scope)
        if isinstance(a, Token):
            return a.place + b.place if isinstance(b, Token) else Token(a.answer, a.place + int(b))
        return a + b

    return added


def _negative(value: Value) -> Value:
    def negative(scope: Any) -> Any:
        found = value(scope)
        return Token(found.answer, -found.place) if isinstance(found, Token) else -found

    return negative


def _multiplied(left: Value, right: Value) -> Value:
    return lambda scope: left(scope) * right(scope)


def _divided(left: Value, right: Value) -> Value:
    return lambda scope: left(scope) / right(scope)


def _raised(base: Value, exponent: Value) -> Value:
    return lambda scope: number(base(scope)) ** exponent(scope)

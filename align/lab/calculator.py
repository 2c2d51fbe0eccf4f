"""A calculator as an environment: the policy writes `<<12*7>>`, the next tokens are `84`, and it goes on from there.

    rollout:
      environment: align.lab.calculator:reply
      stop_strings: [">>"]        # so that a call ends a turn

A turn that does not end with a call ends the completion. Sums, differences, products, quotients, whole quotients (//),
remainders (%) and brackets are understood; of anything else, and of a division by zero, the result is `error`.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Mapping
from typing import Any

CALL = re.compile(r"<<([^<>]*)>>\s*\Z")
WRITTEN = re.compile(r"[\d+\-*/%(). ]{1,60}")  # the length bounds what a product can cost
TWO: dict[type[ast.AST], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod,
}  # fmt: skip
ONE: dict[type[ast.AST], Callable[[Any], Any]] = {ast.UAdd: operator.pos, ast.USub: operator.neg}


def reply(prompt: Any, text: str, columns: Mapping[str, Any]) -> str | None:
    """With the signature of an environment."""
    call = CALL.search(text)
    return None if call is None else result(call[1])


def result(expression: str) -> str:
    """Of `12 * (3 + 4)`: 84. Whole numbers have no point, others up to ten digits."""
    try:
        if not WRITTEN.fullmatch(expression):
            return "error"
        value = _value(ast.parse(expression.strip(), mode="eval").body)
        return str(int(value)) if value == int(value) else f"{value:.10g}"
    except (SyntaxError, ValueError, ArithmeticError):  # int() of what is infinite is an ArithmeticError
        return "error"


def _value(node: ast.expr) -> int | float:
    """Numbers and the operators above, and nothing else: no names, no calls, no powers."""
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        return node.value
    if isinstance(node, ast.BinOp) and type(node.op) in TWO:
        return TWO[type(node.op)](_value(node.left), _value(node.right))
    if isinstance(node, ast.UnaryOp) and type(node.op) in ONE:
        return ONE[type(node.op)](_value(node.operand))
    raise ValueError(f"{type(node).__name__} is not understood")

"""A condition that a comparison meets or not, for continuous integration: `delta > 0 at 95%`.

It is met where the whole interval of that level is on that side: nothing less is shown. Looked at again and again over
checkpoints the plain form opens by chance sooner or later; `look` is the form that may be asked without end, with a
record of all looks in a file.
"""

from __future__ import annotations

import hashlib
import math
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from align.errors import AlignError, RunError, UserError, did_you_mean
from align.system.lines import append_lines, read_lines
from align_eval.analysis.comparison import Comparison, Quantity
from align_eval.analysis.pairs import PairSettings
from align_eval.statistics.resampling import USUAL
from align_eval.statistics.sequential import log_evidence, log_needed, lower_bound

FORM = re.compile(r"(?P<name>\S.*?)\s*(?P<side>[<>])\s*(?P<bound>[-+]?[0-9.]+)\s*at\s+(?P<level>[0-9.]+)\s*%")


class GateFailed(AlignError):
    """What was asked for is not shown; nothing went wrong."""

    exit_code = 3


@dataclass(frozen=True, kw_only=True)
class Gate:
    name: str  # of a quantity
    side: str  # > or <
    bound: float
    level: float  # a share

    def __str__(self) -> str:
        return f"{self.name} {self.side} {self.bound:g} at {self.level * 100:g}%"


@dataclass(frozen=True, kw_only=True)
class Ruling:
    passed: bool
    told: str


def gate_of(text: str) -> Gate:
    """UserError where it is no gate."""
    found = FORM.fullmatch(text.strip())
    try:
        assert found is not None
        bound, level = float(found["bound"]), float(found["level"]) / 100
        assert 0 < level < 1
    except (AssertionError, ValueError):
        raise UserError(f'gate {text!r}: expected NAME > NUMBER at LEVEL%, such as "delta > 0 at 95%"') from None
    return Gate(name=found["name"], side=found["side"], bound=bound, level=level)


def judge(gate: Gate, comparison: Comparison) -> Ruling:
    """The comparison must have been made at the gate's level. RunError where there is no interval to judge by."""
    found = _quantity(gate, comparison).estimate
    if found.value is None or found.low is None or found.high is None:
        raise RunError(f"gate {gate}: {gate.name} has no interval: {found.why or 'it could not be made'}")
    assert math.isclose(found.level, gate.level), "compared at another level"
    end = found.low if gate.side == ">" else found.high
    passed = end > gate.bound if gate.side == ">" else end < gate.bound
    which = "from" if gate.side == ">" else "up to"
    told = f"gate {gate}: {_said(passed)}: {found.value:.4g}, with its interval {which} {end:.4g}"
    return Ruling(passed=passed, told=told)


def level_of(gate: Gate) -> PairSettings:
    """How to compare for it."""
    return PairSettings(how=replace(USUAL, level=gate.level), categories=False)


def look(gate: Gate, comparison: Comparison, record: Path) -> Ruling:
    """One more look of a sequence that is kept in `record`. The same numbers again are no new look.

    UserError where the file is of another gate, or the quantity has no known bounds.
    """
    found = _quantity(gate, comparison)
    if found.values is None or found.bounds is None:
        raise UserError(
            f"gate {gate}: a sequence needs one number for each prompt between known bounds (verdicts, or scores that "
            f"are right or wrong), which {gate.name} has not; use --gate alone, or another number"
        )
    sign = 1.0 if gate.side == ">" else -1.0
    bounds = found.bounds if sign > 0 else (-found.bounds[1], -found.bounds[0])
    values, bound = sign * found.values, sign * gate.bound
    before = looks(record, gate)
    digest = hashlib.sha256(np.sort(found.values).tobytes()).hexdigest()  # the evidence knows no order either
    mark = {"before": comparison.before, "after": comparison.after, "values": digest}
    known = next((row["look"] for row in before if {k: row.get(k) for k in mark} == mark), None)
    number = known or len(before) + 1
    evidence, needed = log_evidence(values, bound, bounds), log_needed(number, gate.level)
    passed = evidence >= needed
    end = sign * lower_bound(values, needed, bounds)
    if known is None:
        row = {"look": number, "gate": str(gate), **mark, "prompts": len(values), "passed": passed}
        append_lines(record, [row])
    told = (
        f"gate {gate}, look {number}: {_said(passed)}: {found.estimate.value:.4g}, "
        f"{'at least' if sign > 0 else 'at most'} {end:.4g} over any number of looks"
    )
    return Ruling(passed=passed, told=told)


def looks(record: Path, gate: Gate) -> list[dict[str, Any]]:
    """Those that were made so far. UserError where the file is of another gate."""
    if not record.exists():
        return []
    found = [row for _, row in read_lines(record)]
    for row in found:
        if row.get("gate") != str(gate):
            raise UserError(f"{record}: is of the gate {row.get('gate')!r}, not of {str(gate)!r}; give each a file")
    return found


def _quantity(gate: Gate, comparison: Comparison) -> Quantity:
    if gate.name not in comparison.quantities:
        near = did_you_mean(gate.name, comparison.quantities)
        raise UserError(f"gate {gate}: no number {gate.name!r}; there are {', '.join(comparison.quantities)}.{near}")
    return comparison.quantities[gate.name]


def _said(passed: bool) -> str:
    return "passed" if passed else "not passed"

"""Golden vectors (tests/golden/README.md): how they are read and compared. Knows the format, none of the numbers."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

FOLDER = Path(os.environ.get("ALIGN_GOLDEN") or Path(__file__).parents[1] / "golden")
FILES = {path.stem: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))}
CASES = [(stem, case["name"]) for stem, content in FILES.items() for case in content.get("cases", [{"name": ""}])]

SETTING = re.compile(
    r"(_(beta|gamma|lambda|tau|eps|label_smoothing)_[0-9.e+-]+)+$"
)  # a suffix that tells variants apart


class Checker:
    """Compares fields of a case, and knows at the end whether any was forgotten."""

    def __init__(self, content: dict[str, Any], expected: dict[str, Any], dtype: torch.dtype):
        self.tolerance = {"rtol": 1e-9, "atol": 1e-12} | content.get("tolerance", {})
        self.expected, self.dtype, self.left = expected, dtype, set(expected)

    def tensor(self, name: str) -> Tensor:
        return torch.tensor(self.expected[name], dtype=torch.float64)

    def equal(self, name: str, actual: Tensor | float) -> None:
        found, wanted = torch.as_tensor(actual, dtype=torch.float64).detach(), self.tensor(name)
        tolerance = self.tolerance
        if self.dtype == torch.float32:
            tolerance = {"rtol": 1e-5, "atol": max(1e-5 * float(wanted.abs().max()), 1e-7)}
        torch.testing.assert_close(found, wanted, **tolerance, msg=lambda text: f"{name}: {text}")
        self.left.discard(name)

    def exactly(self, name: str, actual: Any) -> None:
        assert actual == self.expected[name], name
        self.left.discard(name)

    def gradient(self, name: str, leaf: Tensor, kept: Tensor) -> None:
        """Also says that the gradient is exactly 0 where nothing is kept."""
        assert leaf.grad is not None, name
        self.equal(name, leaf.grad)
        assert not leaf.grad[~kept].any(), f"{name}: masked places have a gradient"

    def done(self) -> None:
        assert not self.left, f"expected fields that nobody checked: {sorted(self.left)}"


def stem_of(case_name: str) -> str:
    return SETTING.sub("", case_name)


def load(stem: str, name: str, dtype: torch.dtype) -> tuple[dict[str, Any], dict[str, Tensor], Checker]:
    content = FILES[stem]
    case = next(c for c in content["cases"] if c["name"] == name)
    raw = {**content.get("inputs", {}), **case.get("inputs", {})}
    inputs = {k: torch.tensor(v, dtype=torch.long if k == "input_ids" else dtype) for k, v in raw.items()}
    return case, inputs, Checker(content, case["expected"], dtype)

"""The reward functions of the package, and what may be done to their sum."""

from __future__ import annotations

import dataclasses
import importlib
from typing import Any

from align.rewards.base import reward_names
from align.rewards.shape import PIECES
from docs.generate.files import REPOSITORY
from docs.generate.tables import about, cell, table


def rewards() -> str:
    parts: list[str] = []
    for name in reward_names():
        cls, told = reward_class(name)
        settings = table(cls) if dataclasses.fields(cls) else "It has no settings."
        parts.append(f"### {name}\n\n{cell(told)}\n\n{settings}")
    return "\n\n".join(parts)


def shapes() -> str:
    return "\n\n".join(f"### {name}\n\n{about(cls)}\n\n{table(cls)}" for name, cls in PIECES.items())


def reward_class(name: str) -> tuple[type[Any], str]:
    """The class of a name, and the first paragraph of its file."""
    (path,) = REPOSITORY.glob(f"align/rewards/**/{name}.py")
    module = importlib.import_module(".".join(path.relative_to(REPOSITORY).with_suffix("").parts))
    return module.Reward, " ".join((module.__doc__ or "").split("\n\n")[0].split())

"""The recipe's section `reward`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from align.system.ranges import AtLeastOne, NotNegative


@dataclass(frozen=True, kw_only=True)
class Function:
    """One reward function."""

    name: str  # of `align/rewards`, or package.module:function (or Class, made with `settings`)
    weight: float = 1.0  # in the sum
    settings: dict[str, Any] = field(default_factory=dict)  # of a class: its fields
    cache: bool = False  # verdicts are remembered: for functions that always say the same of the same completion


@dataclass(frozen=True, kw_only=True)
class RewardSection:
    """What a completion earns."""

    functions: list[str | Function] = field(default_factory=list)  # the reward is their weighted sum
    shape: list[dict[str, Any]] = field(default_factory=list)  # done to the weighted sum, in this order
    on_error: Literal["stop", "mark"] = "stop"  # mark: the sample counts as not judged, and is told
    timeout: NotNegative = 0.0  # seconds for each sample, in a worker process; 0: all at once, in this process
    num_workers: AtLeastOne = 2  # processes, where there is a timeout

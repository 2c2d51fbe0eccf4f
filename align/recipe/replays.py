"""Whether a recording holds what a recipe is to learn from: rollouts, judged by the same reward functions."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from align.recipe.text import Written
from align.rewards.settings import Function, RewardSection
from align.rewards.verdicts import named
from align.rollout.settings import RolloutSection

KEY = "rollout.replay"
BY = f"the completions in {KEY} were judged by"
CURE = ", and their verdicts are learned from as they are: ask for the same, or run without replay"


def check_replay(written: Written, rollout: RolloutSection, reward: RewardSection) -> None:
    folder = Path(rollout.replay, "rollouts")
    first = folder / "000000.jsonl"
    if not any(folder.glob("*.jsonl")):
        text = f"{rollout.replay} holds no rollouts/*.jsonl; name the folder of a run with rollout.record: true"
        written.wrong(KEY, text)
    elif not first.exists():
        text = "kept its last experiences alone; run it again with rollout.record: true, which keeps all"
        written.wrong(KEY, f"{rollout.replay} {text}")
    else:
        _judged_alike(written, first, dict(named(reward.functions)))
    if rollout.record:
        written.wrong("rollout.record", "conflicts with replay: what is replayed is recorded already")


def _judged_alike(written: Written, first: Path, functions: Mapping[str, Function]) -> None:
    """Verdicts are learned from as they were recorded; what cannot be read is told when the run reads it."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError), open(first, encoding="utf-8") as rows:
        # Rewards that compare are told by a later line, and a completion that goes on is not judged yet.
        recorded = {name for row in map(json.loads, rows) for name in row["rewards"]}
        if recorded and recorded != set(functions):
            asked, found = (", ".join(sorted(names)) or "nothing" for names in (functions, recorded))
            written.wrong("reward.functions", f"found {asked}; {BY} {found}{CURE}")
            return
    for name, settings in _settings_of(first.parents[1] / "recipe.yaml").items():
        if name in functions and settings != functions[name].settings:
            asked, found = (json.dumps(s, default=str, sort_keys=True) for s in (functions[name].settings, settings))
            written.wrong("reward.functions", f"{name} has the settings {asked}; {BY} one with {found}{CURE}")


def _settings_of(recipe: Path) -> dict[str, Any]:
    """Of the functions of a recorded run, by their names; nothing where its recipe cannot be read."""
    try:
        entries = yaml.safe_load(recipe.read_text(encoding="utf-8"))["reward"]["functions"]
        asked = [Function(name=e) if isinstance(e, str) else Function(**e) for e in entries]
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError):
        return {}
    return {name: function.settings for name, function in named(asked)}

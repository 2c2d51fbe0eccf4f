"""What a run says of itself when it begins, and of the test split when it has ended."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from align.run.assemble import Setup

SHOWN = 4  # test metrics on the terminal; test.json has all


def beginning(setup: Setup, num_steps: int, done: int) -> str:
    """Where it trains, how much, on what, and into which folder: one line."""
    world, splits, training = setup.world, setup.splits, setup.recipe.training
    parameters = list(setup.trainee.module.parameters())
    weights, trained = (sum(sizes) for sizes in (map(_size, parameters), map(_size, filter(_learns, parameters))))
    share = "all trained" if weights == trained else f"{trained:,} trained"
    on = f"{world.device.type}, {world.size} process{'es' if world.size > 1 else ''}"
    left = f"steps {done + 1} to {num_steps}" if done else f"{num_steps} steps"
    return (
        f"{setup.recipe.method_name} on {on}: {weights:,} weights, {share}; {len(splits.train):,} rows, {left} of "
        f"{training.batch_size}; into {setup.folder.path}"
    )


def ending(found: Mapping[str, Any], first: str) -> Iterator[str]:
    """The test split's metrics, the one that runs are compared by before the others, beside those before training."""
    before: Mapping[str, Any] = found.get("before", {})
    names = [name for name, made in found.items() if isinstance(made, dict) and "stderr" in made]
    for name in sorted(names, key=lambda n: (n != first, names.index(n)))[:SHOWN]:
        was = f" (before training {_before(name, before)})" if name in before else ""
        yield f"test: {name} {found[name]['value']:.4g} ± {found[name]['stderr']:.2g}{was}"


def _before(name: str, before: Mapping[str, Any]) -> str:
    """A policy that begins as its own reference prefers nothing yet."""
    if name == "accuracy" and before.get("margin", {}).get("value") == 0 and before[name]["value"] == 0:
        return "every pair is a tie"
    return f"{before[name]['value']:.4g}"


def _size(parameter: Any) -> int:
    """Of the whole of it, where each process has a part (DeepSpeed keeps the number beside an empty one)."""
    return int(getattr(parameter, "ds_numel", parameter.numel()))


def _learns(parameter: Any) -> bool:
    return bool(parameter.requires_grad)

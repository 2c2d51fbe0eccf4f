"""Reward functions: found by name, called with TRL's signature, and held to it.

    f(prompts, completions, completion_ids=..., **columns) -> list[float | None]

`prompts` and `completions` are texts, or lists of messages where the data are conversations; every column of the data
comes as a list too, or those that the function names where it has no **columns; rows without one have None there. None
says that the function does not apply to a sample. It may be `async`. All that it is given is its own: what it does to
it nobody else sees. What it draws from `random`, numpy's or torch's global generator is the same whenever the sample is
judged in a run of this seed; a generator of its own it must seed itself, by what it is told.
What it reads beside that, such as a list of words, belongs to what a run is: `inputs`, a list of files and folders
(of a class also a method that gives one), names it, so that a run is not gone on with when it has changed. Where there
is no `inputs`, the files that `settings` name are taken. `calls` likewise lists functions (package.module:function)
that it hands samples to, whose code is part of what a run is.
A class may have `warm()`, for what is slow once, such as an import: no sample's time in a worker process pays for it;
`reads`, a dictionary from a setting to the data column that it names, which must be there; and `asks`, another reward
that it gives all columns to.

A function whose `compares` is "prompt" (an attribute) compares completions with each other. One call gives it all
completions of one prompt, once there are no more to come, those too that the method has asked for beside the first;
where a prompt has only one it is not asked. Where others than the policy wrote some of them, a column `written_by` says
who wrote which: `policy`, or the role of another. Any other function may be given completions one by one.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import math
import pkgutil
from collections.abc import Callable, Sequence
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from typing import Any

from align.errors import RunError, UserError, did_you_mean
from align.outside import AskedToEnd, contained, drawing, load_outside, own
from align.rewards.columns import arguments
from align.system.coroutines import finished

NO_REWARDS = (  # files and folders beside the functions
    *("base", "cache", "columns", "given", "settings", "shape", "pool", "worker", "verdicts"),
    *("math", "answers", "numerals", "formulas", "pairwise", "oracle"),
)
PROMPT = "prompt"  # what a function may say that it compares: the completions of one
Text = str | list[dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A completion to be judged."""

    prompt: Text
    completion: Text
    completion_ids: list[int]
    columns: dict[str, Any] = field(default_factory=dict)  # of the data row, without `prompt`
    seed: int = 0  # of what functions draw when they judge it


def text_of(completion: Text) -> str:
    """What the assistant said, whichever form it has."""
    if isinstance(completion, str):
        return completion
    return "\n".join(str(m.get("content", "")) for m in completion if m.get("role") == "assistant")


def reward_names() -> list[str]:
    """Every reward function of this package: one file each."""
    return sorted(_modules())


def _modules() -> dict[str, str]:
    """Where they are, by name, in this folder and in those within it."""
    package = importlib.import_module("align.rewards")
    found = {m.name.rpartition(".")[2]: m.name for m in pkgutil.walk_packages(package.__path__, "align.rewards.")}
    return {name: module for name, module in found.items() if name not in NO_REWARDS}


def find_reward(name: str, settings: dict[str, Any]) -> Callable[..., Any]:
    """The function called `name`, made with `settings` where it is a class. UserError says what is wrong."""
    found: Any = load_outside("reward", name) if ":" in name else _own(name)
    if not inspect.isclass(found):
        _refuse_signature(name, found)
        if settings:
            raise UserError(f"reward {name}: is a function and takes no settings; name a class instead")
        if not callable(found):
            raise UserError(f"reward {name}: {type(found).__name__} is not callable")
        function: Callable[..., Any] = _known_scope(name, found)
        return function
    known = [f.name for f in fields(found)] if is_dataclass(found) else list(settings)
    for key in settings:
        if key not in known:
            has = f"it has {', '.join(known) or 'none'}.{did_you_mean(key, known)}"
            raise UserError(f"reward {name}: no such setting: {key}; {has}")
    needed = [f.name for f in fields(found) if f.default is f.default_factory is MISSING] if is_dataclass(found) else []
    if missing := [key for key in needed if key not in settings]:
        raise UserError(
            f"reward {name}: misses the setting {', '.join(missing)}; write settings: {{{missing[0]}: ...}}"
        )
    try:
        with contained(), drawing(0):  # what is drawn on making it is the same in every process
            made: Any = found(**settings)
    except (TypeError, ValueError, AskedToEnd) as error:
        raise UserError(f"reward {name}: {error}") from None
    return _known_scope(name, made)


def compares(function: Any) -> bool:
    """Whether a function is to be given all completions of a prompt at once."""
    return getattr(function, "compares", "") == PROMPT


def _known_scope(name: str, function: Any) -> Any:
    scope = getattr(function, "compares", "")
    if scope not in ("", PROMPT):
        raise UserError(f"reward {name}: compares is {scope!r}; expected {PROMPT}, or no such attribute")
    return function


def _refuse_signature(name: str, function: Any) -> None:
    """UserError where a function could never be called; which columns there are is not known yet."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # no function of Python's, or no function: told elsewhere
        return
    try:
        signature.bind_partial(prompts=[], completions=[], completion_ids=[])
    except TypeError as error:
        raise UserError(
            f"reward {name}: {error}; it is called with prompts, completions, completion_ids and every column of the "
            "data: write def f(prompts, completions, **columns)"
        ) from None


def _own(name: str) -> Any:
    known = reward_names()
    if name not in known and "." in name:
        raise UserError(f"no such reward: {name}; did you mean {':'.join(name.rsplit('.', 1))}?")
    if name not in known:
        there = f"{', '.join(known)}, or package.module:function"
        raise UserError(f"no such reward: {name}; there are {there}.{did_you_mean(name, known)}")
    return importlib.import_module(_modules()[name]).Reward


def call(name: str, function: Callable[..., Any], samples: Sequence[Sample], place: int = 0) -> list[float | None]:
    """One verdict for each sample. RunError where the function breaks its signature; its own exceptions pass.

    `place` is the function's number among those of the recipe, each of which draws for itself.
    """
    told = [s.columns for s in samples]
    asked, taken = arguments(function)
    there = dict.fromkeys([*(c for row in told for c in row if taken is None or c in taken), *asked])
    columns = {c: [own(row.get(c)) for row in told] for c in there}
    said = {f"{part}s": [own(getattr(s, part)) for s in samples] for part in ("prompt", "completion")}
    ids = [own(s.completion_ids) for s in samples]
    with contained(), drawing(_seed_of(place, *(s.seed for s in samples))):
        found = function(**said, completion_ids=ids, **columns)
        if inspect.iscoroutine(found):
            found = finished(found)
    found = found.tolist() if hasattr(found, "tolist") else found  # of numpy, torch, pandas
    if not isinstance(found, list | tuple):
        kind = type(found).__name__
        raise RunError(f"reward {name}: returned {kind}; expected a list with a number, or None, for each completion")
    if len(found) != len(samples):
        raise RunError(
            f"reward {name}: returned {len(found)} values for {len(samples)} completions; expected one for each"
        )
    return [_number(name, value, sample) for value, sample in zip(found, samples, strict=True)]


def _seed_of(*numbers: int) -> int:
    return int.from_bytes(hashlib.sha256(str(numbers).encode()).digest()[:8], "big")


def _number(name: str, value: Any, sample: Sample) -> float | None:
    if value is None:
        return None
    if isinstance(value, str) or not hasattr(value, "__float__"):
        raise RunError(f"reward {name}: returned {value!r} for {shown(sample)}; expected a number or None")
    number = float(value)
    if not math.isfinite(number):
        raise RunError(
            f"reward {name}: returned {number} for {shown(sample)}; expected a finite number, or None where it does "
            "not apply"
        )
    return number


def shown(sample: Sample) -> str:
    """A completion, as messages name it."""
    text = text_of(sample.completion)
    return f"the completion {text[:60]!r}{'...' if len(text) > 60 else ''}"

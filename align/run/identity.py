"""Who a run is: all that its numbers depend on, by which a resume sees whether it is still the same.

    recipe                 resolved and complete
    data                   a hash of the rows as they are read, of tokenizer and template
    weights                a hash of those of the policy, the critic and the references
    inputs.model.FILE      what else is read of the model's folder: config, tokenizer, generation settings, code
    inputs.base.FILE       of an adapter's base;  likewise inputs.tokenizer, inputs.critic and inputs.reference...
    inputs.method.MODULE   code from outside: of a method, of `environment` and of `steps`
    inputs.rewards.NAME.FILE   of a reward: its code, and the files that it is made with
    inputs.replay.FILE     a recording that is learned from
    arithmetic             in which precision is computed
    world_size, sharding   how many processes, and how the model is divided among them

Versions, hardware and threads change the last bits alone; they are told (environment.json) and not refused.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from align.errors import Findings, UserError
from align.methods.base import OnlineMethod
from align.models.frozen import references
from align.models.load import Where, where
from align.models.settings import ModelSection
from align.models.sources import commit_of, resolve, side_sums
from align.models.tokenizer import source_of
from align.outside import load_outside
from align.recipe.load import Recipe
from align.recipe.steps import count_steps, steps_of_experience
from align.rewards.base import find_reward
from align.rewards.settings import Function
from align.rewards.verdicts import named
from align.run.critic import critic_section
from align.runfolder.folder import fixed
from align.system.origins import code_of
from align.system.sums import digest_of, sha256_of

Sums = dict[str, str]  # file or module -> sha256
FORMAT = 2  # of identity.json; the first had no number, no inputs and no arithmetic


def digest(identity: dict[str, Any]) -> str:
    """Short for all of an identity that may not change."""
    return digest_of(fixed(identity))[:16]


def inputs_of(recipe: Recipe, init: Path, num_rows: int) -> dict[str, Any]:
    """Every file that a run's numbers depend on, beside its data and weights, by what it is for. UserError."""
    found: dict[str, Any] = dict(_models(recipe, init)) | dict(_code(recipe))
    if isinstance(recipe.method, OnlineMethod):
        rewards = {name: _reward(function) for name, function in named(recipe.reward.functions)}
        found["rewards"] = {name: sums for name, sums in rewards.items() if sums}
        found["replay"] = _replayed(recipe, num_rows)
    return {name: sums for name, sums in found.items() if sums}


def _models(recipe: Recipe, init: Path) -> Iterator[tuple[str, Sums]]:
    section = recipe.model
    code, places = section.trust_remote_code, where(section, init)
    yield from _of(places, "model", "base", code=code)
    if (tokenizer := source_of(section)) not in (places.weights, places.adapter):
        yield "tokenizer", side_sums(tokenizer, code=code)
    if section.critic is not None and section.critic.model_name_or_path:
        yield from _of(where(critic_section(section, section.critic), init), "critic", "critic_base", code=code)
    for key, other in references(section).items():
        name = key.replace(".", "_")
        yield from _of(other, name, f"{name}_base", code=code)


def commits_of(section: ModelSection) -> dict[str, str]:
    """Key of the section -> the commit of the hub's repository that is read for it."""
    keys = ("model_name_or_path", "tokenizer_name_or_path")
    named = {key: getattr(section, key) for key in keys} | section.others()
    found = {f"model.{key}": commit_of(resolve(name)) for key, name in named.items() if name}
    return {key: commit for key, commit in found.items() if commit}


def _of(places: Where, name: str, base: str, *, code: bool) -> Iterator[tuple[str, Sums]]:
    yield name, side_sums(places.adapter or places.weights, code=code)
    if places.adapter:
        yield base, side_sums(places.weights, code=code)


def _code(recipe: Recipe) -> Iterator[tuple[str, Sums]]:
    for kind, name in _outside(recipe):
        yield kind, code_of(name) | _sums_of(_code_files(kind, name))


def _outside(recipe: Recipe) -> Iterator[tuple[str, str]]:
    rollout = recipe.rollout
    named = {"method": recipe.method_name, "environment": rollout.environment, "steps": rollout.steps}
    return ((kind, name) for kind, name in named.items() if ":" in name)


def _code_files(kind: str, name: str) -> list[Path]:
    key = kind if kind == "method" else f"rollout.{kind}"
    return _files_of(f"{key} {name}", _declared(load_outside(kind, name)) or [])


def _reward(asked: Function) -> Sums:
    names = [name for name in (asked.name, *_calls(asked)) if ":" in name]
    code = {module: digest for name in names for module, digest in code_of(name).items()}
    return code | _sums_of(_reward_files(asked))


def _calls(asked: Function) -> Sequence[str]:
    """Functions from outside that the function says it hands samples to."""
    return getattr(find_reward(asked.name, asked.settings), "calls", ())


def _reward_files(asked: Function) -> list[Path]:
    """What the function says that it reads (`inputs`), or else the files that its settings name."""
    declared = _declared(find_reward(asked.name, asked.settings))
    files = [text for text in _texts(asked.settings) if _is_file(text)] if declared is None else declared
    return _files_of(f"reward {asked.name}", files)


def check_inputs(recipe: Recipe) -> None:
    """Mistakes where code from outside, or a reward, says that it reads files that are not there."""
    found = Findings()
    for kind, name in _outside(recipe):
        with found:
            _code_files(kind, name)
    for _, function in named(recipe.reward.functions):
        with found:
            _reward_files(function)
    found.tell()


def _declared(function: Any) -> Sequence[str | Path] | None:
    """A list, or a method that gives one."""
    found = getattr(function, "inputs", None)
    return found() if inspect.ismethod(found) else found


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _texts(inner)


def _is_file(text: str) -> bool:
    try:
        return Path(text).expanduser().is_file()
    except (OSError, ValueError):
        return False


def _files_of(who: str, paths: Sequence[str | Path]) -> list[Path]:
    """As they were named. UserError for those that are not there."""
    found = [Path(p).expanduser() for p in paths]
    if lost := [path for path in found if not path.exists()]:
        raise UserError(f"{who}: reads {lost[0]}, as its `inputs` says, and there is no such file")
    return found


def _sums_of(paths: Sequence[Path]) -> Sums:
    """Of files, and of all files in folders; files of one name are told apart by their folders."""
    found: Sums = {}
    for path in paths:
        for file in [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file()):
            name = file.relative_to(path.parent).as_posix()
            found[name if name not in found else file.as_posix()] = sha256_of(file)
    return found


def _replayed(recipe: Recipe, num_rows: int) -> Sums:
    """The recorded experiences that this run learns from; later ones do not count."""
    if not recipe.rollout.replay:
        return {}
    wanted = -(-count_steps(recipe, num_rows) // steps_of_experience(recipe))
    files = (Path(recipe.rollout.replay, "rollouts", f"{number:06d}.jsonl") for number in range(wanted))
    return {file.name: sha256_of(file) for file in files if file.exists()}

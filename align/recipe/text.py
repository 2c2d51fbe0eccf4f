"""From a recipe's name and `key=value` words to plain nested dictionaries: finding, reading, overriding."""

from __future__ import annotations

import re
import sysconfig
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from align.errors import UserError, did_you_mean
from align.system.machine import lacks
from align.system.yaml12 import one_line, parse

PACKAGE = Path(__file__).parents[1]

NOTHING = ("", "~", "null", "Null", "NULL")
ENDS = ("training.max_steps", "training.num_train_epochs")


@dataclass
class Written:
    """What the user wrote, and the mistakes found in it so far."""

    label: str  # the file as messages name it
    values: dict[str, Any]
    overridden: set[str] = field(default_factory=set)  # dotted keys from `over`
    over: str = "command line"  # who says what the file does not
    mistakes: list[str] = field(default_factory=list)
    broken: set[str] = field(default_factory=set)  # keys whose value was refused: whatever else they break is no news

    def wrong(self, key: str, finding: str) -> None:
        """Notes a mistake at the dotted `key`, with the place where it was written."""
        if key in self.broken:
            return
        place = self.label
        if any(key == k or key.startswith(k + ".") or k.startswith(key + ".") for k in self.overridden):
            place = self.over
        self.mistakes.append(f"{place}: {key}: {finding}" if key else f"{place}: {finding}")

    def has(self, key: str) -> bool:
        """Whether the user wrote this dotted key, here or on the command line."""
        return self.get(key, _ABSENT) is not _ABSENT

    def get(self, key: str, default: Any = None) -> Any:
        found: Any = self.values
        for part in key.split("."):
            if not isinstance(found, dict) or part not in found:
                return default
            found = found[part]
        return found


_ABSENT = object()


# ---- finding --------------------------------------------------------------------------------------------------------


def shipped(kind: str) -> Path:
    """The folder `recipes` or `launch`, beside the package in a checkout, under share/align of an installed wheel."""
    checkout = PACKAGE.parent / kind
    if (PACKAGE.parent / "pyproject.toml").exists() and checkout.is_dir():
        return checkout
    places = [PACKAGE.parent, Path(sysconfig.get_path("data")), *(p for p in PACKAGE.parents if (p / "share").is_dir())]
    return next((p / "share/align" / kind for p in places if (p / "share/align" / kind).is_dir()), checkout)


def recipe_names() -> list[str]:
    return sorted(p.stem for p in shipped("recipes").glob("*.yaml"))


def find_recipe(recipe: str) -> Path:
    """The file itself, or the shipped recipe of that name."""
    if Path(recipe).is_file():
        if recipe.endswith(".py"):
            raise UserError(f"{recipe}: is a Python script, and no recipe; python runs it")
        return Path(recipe)
    if recipe in recipe_names():
        return shipped("recipes") / f"{recipe}.yaml"
    if Path(recipe).is_dir():
        if (inside := Path(recipe) / "recipe.yaml").is_file():
            return inside
        raise UserError(f"{recipe}: a folder without recipe.yaml; name a recipe file or a run folder")
    if (path := Path(recipe)).suffix or "/" in recipe:
        beside = [p.name for p in path.parent.glob("*.y*ml")] if path.parent.is_dir() else []
        near = did_you_mean(path.name, beside) or did_you_mean(path.name, [f"{name}.yaml" for name in recipe_names()])
        raise UserError(f"{recipe}: no such file; a shipped recipe is named alone, such as dpo.{near}")
    hint = did_you_mean(recipe, recipe_names())
    raise UserError(f"{recipe}: no such file, and no shipped recipe; there are {', '.join(recipe_names())}.{hint}")


# ---- reading --------------------------------------------------------------------------------------------------------


def read(path: Path) -> Written:
    """Reads a recipe file; `UserError` where it is no mapping at all."""
    label = _label(path)
    try:
        values, twice = parse(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{label}: no readable YAML: {one_line(error)}") from None
    except OSError as error:
        if lacks(error):
            raise
        raise UserError(f"{label}: cannot be read: {error.strerror}") from None
    if not isinstance(values, dict):
        raise UserError(f"{label}: holds no sections; a recipe is a YAML mapping with method, model, data, ...")
    written = Written(label, _text_keys(values))
    for key, first, second in twice:
        written.mistakes.append(f"{label}: {key}: stands twice, in lines {first} and {second}; keep one")
    return written


def override(written: Written, words: Sequence[str], is_text: Callable[[str], bool] = lambda key: False) -> None:
    """Applies `dotted.key=value` words in order; the value is YAML, `null` removes the key.

    `is_text` knows the keys of plain text, whose value is taken as it stands unless it is quoted: a folder may be
    called `a #b`.
    """
    for word in words:
        key, sign, text = word.partition("=")
        if not sign or not re.fullmatch(r"[A-Za-z_][\w-]*(\.[\w-]+)*", key):
            written.mistakes.append(f"command line: {word}: not of the form section.key=value, such as training.seed=1")
            continue
        try:
            literal = is_text(key) and text[:1] not in ("'", '"') and text.strip() not in NOTHING
            value, twice = (text, []) if literal else parse(text)
        except yaml.YAMLError as error:
            written.mistakes.append(f"command line: {key}: the value is no readable YAML: {one_line(error)}")
            continue
        written.mistakes += [f"command line: {word}: {k} stands twice" for k, _, _ in twice]
        written.overridden.add(key)
        _set(written, key, _text_keys(value))
    _settle(written)


def lay_over(written: Written, values: Mapping[str, Any], over: str) -> None:
    """Puts sections over the file's, each of their keys as a whole; None takes a key away. `over` says who says so."""
    written.over = over
    for name, section in values.items():
        keys = {f"{name}.{k}": v for k, v in section.items()} if isinstance(section, Mapping) else {name: section}
        for key, value in keys.items():
            written.overridden.add(key)
            _set(written, key, _text_keys(value))
    _settle(written)


def _settle(written: Written) -> None:
    """What follows from all that was put over a file."""
    for one, other in (ENDS, ENDS[::-1]):
        if one in written.overridden and other not in written.overridden and written.get(one):
            _set(written, other, None)  # it is ended in another way than the file says
    for key in _with_nul(written.values):
        written.wrong(key, "holds a NUL character, which no name of a file or a setting can")


def _with_nul(value: Any, key: str = "") -> list[str]:
    """The dotted keys of texts that hold one, and of keys that do."""
    if isinstance(value, str):
        return [key] if "\0" in value else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found: list[str] = []
    for name, inner in items:
        place = f"{key}.{name}".lstrip(".")
        found += [place.replace("\0", "\\0")] if "\0" in str(name) else _with_nul(inner, place)
    return found


def _set(written: Written, key: str, value: Any) -> None:
    *path, last = key.split(".")
    at: Any = written.values
    for depth, part in enumerate(path):
        if isinstance(at, list) and part.isdigit() and int(part) < len(at):
            at = at[int(part)]
            continue
        if isinstance(at, dict) and (part not in at or at[part] is None):
            at[part] = {}
        if not isinstance(at, dict) or not isinstance(at[part], dict | list):
            inner = ".".join(path[: depth + 1])
            written.mistakes.append(f"{written.over}: {key}: {inner} is not a section, so nothing can be set inside it")
            return
        at = at[part]
    if isinstance(at, list):
        if not (last.isdigit() and int(last) < len(at)):
            written.mistakes.append(f"{written.over}: {key}: the list has {len(at)} entries, numbered from 0")
        else:
            at[int(last)] = value
    elif value is None:
        at.pop(last, None)
    else:
        at[last] = value


def _text_keys(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(k): _text_keys(v) for k, v in value.items()}
    return [_text_keys(v) for v in value] if isinstance(value, list) else value


def _label(path: Path) -> str:
    """The path as seen from here when it lies here; shipped recipes as recipes/NAME.yaml."""
    if path.is_absolute() and path.parent == shipped("recipes"):
        return f"recipes/{path.name}"
    return str(path)

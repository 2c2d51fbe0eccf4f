"""`align translate`: a recipe made of another project's config or command line, with an account of every key."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import yaml

from align.errors import Mistakes, UserError
from align.recipe.load import checked, load_recipe
from align.recipe.text import Written
from align.system.files import replace_file
from align.system.terminal import say
from align.system.yaml12 import one_line, parse
from align.translate.command import Command, left_open, of_script, take_apart
from align.translate.draft import Account, Draft, brief
from align.translate.origin import Hints, recognise
from align.translate.rules.rows import TEMPLATE
from align.translate.whole import Original, translate
from align.translate.written import account_lines, launch_lines, lost, recipe_text

OURS = ("method", "model", "data", "optim", "training", "logging")
POWER = re.compile(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+")
SCRIPTS = (".sh", ".bash", ".slurm")


@dataclass(frozen=True)
class Wishes:
    """What the user says beside the original."""

    out: Path | None = None
    project: str = ""
    trainer: str = ""
    processes: int = 0
    lossy: bool = False


def run(words: list[str], wishes: Wishes) -> None:
    """`words` are a file, or a command line."""
    name, values, command = read(words)
    draft = drafted(name, values, command, wishes)
    missing = lost(draft)
    if missing and not wishes.lossy:
        keys = [f"{name}: {a.key}: not offered: {a.words}{_unsaid(a, draft.words.project)}" for a in missing]
        rest = len(draft.accounts) - len(missing)
        raise Mistakes([*keys, f"{rest} other keys have their place; --lossy writes the recipe without these"])
    if wishes.out is None:
        if draft.files:
            raise UserError(f"{name}: its chat template becomes a file beside the recipe; name the recipe with -o")
        text = recipe_text(draft, name)
        say(text, end="")
        _tell(draft, "RECIPE", sys.stderr)
        _mend("RECIPE", lambda: checked(Written("RECIPE", parse(text)[0]), Path("RECIPE")), sys.stderr)
        return
    write(draft, name, wishes.out)
    _tell(draft, str(wishes.out), sys.stdout)
    _mend(str(wishes.out), lambda: load_recipe(wishes.out or ""), sys.stdout)


def _unsaid(account: Account, project: str) -> str:
    """Of what stands nowhere in the original, how it comes to be asked for."""
    return "" if account.given else f" ({brief(account.value)} is {project}'s default, where nothing else is said)"


def drafted(name: str, values: dict[str, Any], command: Command, wishes: Wishes) -> Draft:
    hints = Hints(path=name, names=command.names, project=wishes.project, trainer=wishes.trainer)
    try:
        origin = recognise(values, hints)
        folder = Path(name).parent if Path(name).is_file() else Path()
        return translate(Original(values, origin, command, wishes.processes, folder))
    except UserError as error:
        raise UserError(f"{name}: {error}") from None
    except (TypeError, ValueError, KeyError, IndexError, AttributeError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{name}: a value is not of the kind that its key has: {error}") from error


# ---- reading ---------------------------------------------------------------------------------------------------------


def read(words: list[str]) -> tuple[str, dict[str, Any], Command]:
    """How messages call it, its keys, and the command that it is or is for."""
    if len(words) == 1 and not Path(words[0]).is_file():
        raise UserError(f"{words[0]}: no such file; name a config or a shell script, or give a command line after --")
    if len(words) == 1 and words[0].endswith(".py"):
        raise UserError(f"{words[0]}: is a Python script. One of TRL's runs by another import, `from align.trl import "
                        f"DPOConfig, DPOTrainer`; what it is called with is translated by `align translate -- python "
                        f"{words[0]} --beta 0.1 ...`")  # fmt: skip
    if len(words) == 1 and not words[0].endswith(SCRIPTS):
        return words[0], _config(Path(words[0])), Command()
    name = words[0] if len(words) == 1 else "command line"
    try:
        given = of_script(Path(name).read_text(encoding="utf-8")) if len(words) == 1 else words
    except UserError as error:
        raise UserError(f"{name}: {error}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{name}: cannot be read: {error}") from None
    command = take_apart(given, _value)
    if missing := left_open(command.flags):
        cure = "the script does not set it; write the value itself, here or as NAME=VALUE above the command"
        raise Mistakes([f"{name}: {what}: {cure}" for what in missing])
    if not command.names and not command.file and not command.flags:
        raise UserError(f"{name}: no command and no flags; such as: trl dpo --beta 0.1")
    beside = _config(Path(command.file)) if command.file else {}
    return (command.file or name), beside | command.flags, command


def _config(path: Path) -> dict[str, Any]:
    try:
        values, twice = parse(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: no readable YAML: {one_line(error)}") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    if not isinstance(values, dict) or not values:
        raise UserError(f"{path}: holds no keys; expected a config as a YAML mapping")
    if twice:
        raise UserError(f"{path}: {twice[0][0]}: stands twice, in lines {twice[0][1]} and {twice[0][2]}; keep one")
    if "method" in values and any(isinstance(values.get(section), dict) for section in OURS):
        raise UserError(f"{path}: is a recipe already; `align check {path}` looks at it")
    return {str(key): _number(value) for key, value in values.items()}


def _number(value: Any) -> Any:
    """Of 2e-5 older YAML makes a text, which the other projects read as the number that it looks like."""
    return float(value) if isinstance(value, str) and POWER.fullmatch(value) else value


def _value(text: str) -> Any:
    try:
        return parse(text)[0]
    except yaml.YAMLError:
        return text


# ---- writing ---------------------------------------------------------------------------------------------------------


def write(draft: Draft, name: str, out: Path) -> None:
    """The recipe, and its chat template beside it. What is there already stays."""
    template = out.with_suffix(".jinja")
    for path in (out, *([template] if draft.files else [])):
        if path.exists():
            raise UserError(f"{path}: is there already; name another file with -o, or move it away")
    if not out.parent.is_dir():
        raise UserError(f"{out.parent}: no such folder")
    if draft.files:
        replace_file(template, draft.files[TEMPLATE])
        draft.recipe["data.chat_template"] = str(template)
    replace_file(out, recipe_text(draft, name))


def _tell(draft: Draft, recipe: str, file: Any) -> None:
    for line in account_lines(draft):
        say(line, file=file)
    say("", file=file)
    for line in launch_lines(draft, recipe):
        say(line, file=file)


def _mend(where: str, check: Callable[[], object], file: TextIO) -> None:
    """What a run would be refused for, which the original cannot know."""
    try:
        check()
    except Mistakes as error:
        say(f"\n`align check {where}` will want these mended:", file=file)
        for message in error.messages:
            say(f"  {message}", file=file)

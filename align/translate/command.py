"""Command lines of other projects, typed or in a shell script: who is called, its flags, and how many processes.

    accelerate launch --config_file zero3.yaml --num_processes 8 dpo.py --beta 0.1 --packing --report_to none
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from align.errors import UserError

FLAG = re.compile(r"--?[A-Za-z][\w.-]*(=.*)?", re.DOTALL)
SET = re.compile(r"""^\s*(?:export\s+)?(\w+)=("[^"]*"|'[^']*'|[^\s"';&|]+)\s*(?:#.*)?$""", re.MULTILINE)
USED = re.compile(r"\$(?:(\w+)|\{(\w+)(?::[-=]([^}]*))?\})")  # $MODEL, ${MODEL}, ${NPROC:-8}
OPEN = re.compile(r"\$(\w+|[{(].*?[})])|`.*?`")  # what only a shell knows
FURTHER = re.compile(r"""(?<!\S)"?\$[@*]"?(?!\S)""")  # the script's own arguments, handed on
COUNTS = ("num_processes", "nproc_per_node", "num_gpus", "nproc-per-node", "n_gpus")
MANY = ("nnodes", "num_nodes", "num_machines")
FILES = (".yaml", ".yml", ".json")
COMMANDS = ("trl", "llamafactory-cli", "axolotl", "llamafactory")


@dataclass
class Command:
    """A command line, taken apart."""

    names: list[str] = field(default_factory=list)  # of what is called: dpo.py, openrlhf.cli.train_sft, trl, dpo
    flags: dict[str, Any] = field(default_factory=dict)
    file: str = ""  # a config that it names
    launcher: dict[str, str] = field(default_factory=dict)

    @property
    def processes(self) -> int:
        """0 where it does not say."""
        found = [int(v) for k, v in self.launcher.items() if k in COUNTS and v.isdigit()]
        return found[0] * (1 if "num_processes" in self.launcher else self.nodes) if found else 0

    @property
    def nodes(self) -> int:
        """Machines; 1 where it does not say."""
        return next((int(v) for k, v in self.launcher.items() if k in MANY and v.isdigit()), 1) or 1


def of_script(text: str) -> list[str]:
    """The words of the command in a shell script that has the most flags. UserError where there is none."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    whole = re.sub(r"\\\s*\n", " ", "\n".join(lines))
    launched = re.search(r"^.*\$\w*training_commands.*$", whole, re.MULTILINE)
    commands = [line for line in whole.splitlines() if line.count(" --") > 1 and "training_commands" not in line]
    if not commands:
        raise UserError("holds no command with flags (--learning_rate 1e-5 ...)")
    line = max(commands, key=lambda c: c.count(" --"))
    before = launched[0].split("$training_commands")[0] if launched else ""
    known: dict[str, str] = {}
    for name, value in SET.findall(whole[: whole.index(line)]):
        known[name] = _filled(value.strip("'\""), known)
    return _split(_filled(f"{before.strip()} {FURTHER.sub('', line).strip()}", known))


def _filled(text: str, known: dict[str, str]) -> str:
    """With what the script gave its variables, in lines of their own, and their defaults."""
    return USED.sub(lambda found: known.get(found[1] or found[2], found[3] if found[3] is not None else found[0]), text)


def left_open(flags: dict[str, Any]) -> list[str]:
    """The flags whose values only a shell could know, each with what stands there."""
    found = {name: OPEN.search(str(value)) for name, value in flags.items() if isinstance(value, str | list)}
    return [f"{name}: {at[0]}" for name, at in found.items() if at]


def _split(line: str) -> list[str]:
    try:
        return shlex.split(line)
    except ValueError as error:
        raise UserError(f"is no command line: {error}") from None


def take_apart(words: list[str], read: Callable[[str], Any]) -> Command:
    """`read` makes values of their texts."""
    command, words = Command(), _called(words)
    at = next((i for i, word in enumerate(words) if _is_called(words, i)), None)
    if at is not None:
        command.launcher = {k.replace("-", "_"): str(v) for k, v in _flags(words[:at], str, command).items()}
        command.names, words = [words[at]], words[at + 1 :]
    while words and not words[0].startswith("-"):
        _named(command, words.pop(0))
    command.flags = {k.replace("-", "_"): v for k, v in _flags(words, read, command).items()}
    return command


def _called(words: list[str]) -> list[str]:
    """Without what a job scheduler's own command line has: `ray job submit ... -- python3 -m ...`."""
    at = max((i for i, word in enumerate(words) if word == "--"), default=-1)
    return words[at + 1 :]


def _is_called(words: list[str], i: int) -> bool:
    word, before = words[i], words[i - 1] if i else ""
    return word.endswith(".py") or word.split("/")[-1] in COMMANDS or (before in ("-m", "--module") and "." in word)


def _named(command: Command, word: str) -> None:
    if word.endswith(FILES):
        command.file = word
    else:
        command.names.append(word)


def _flags(words: list[str], read: Callable[[str], Any], command: Command) -> dict[str, Any]:
    """`--key value`, `--key=value`, `--key` and `--key a b`; a flag that begins with `no_` says false."""
    found: dict[str, Any] = {}
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if not FLAG.fullmatch(word):
            if word.endswith(FILES):
                command.file = word
            continue
        key, sign, value = word.lstrip("-").partition("=")
        values = [value] if sign else []
        while not sign and rest and not _is_flag(rest[0]):
            values.append(rest.pop(0))
        if key == "config" and values:
            command.file = values[0]
            continue
        no = key.startswith(("no_", "no-")) and not values
        parsed = [read(v) for v in values]
        found[key[3:] if no else key] = not no if not parsed else parsed[0] if len(parsed) == 1 else parsed
    return found


def _is_flag(word: str) -> bool:
    return word.startswith("-") and not re.fullmatch(r"-[\d.]+(e-?\d+)?", word)

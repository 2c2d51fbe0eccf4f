"""The blocks of code in documents, and what a line of shell in one of them asks of which command."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from typer.main import get_command

from align.cli.main import app
from align_eval.cli import app as eval_app

ROOT = Path(__file__).parents[2]
FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
DOCUMENTS = ["README.md", "CONTRIBUTING.md", "launch/README.md"]
COMMANDS = {"align": get_command(app), "align-eval": get_command(eval_app)}
OPTION = re.compile(r"--[a-z][a-z-]+")


@dataclass(frozen=True)
class Block:
    """Where it stands, in which language, and what it says."""

    file: str
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@cache
def blocks(language: str) -> list[Block]:
    """Of the site's pages and of the documents beside them."""
    return [b for path in documents() for b in _of(path) if b.language == language]


def documents() -> list[Path]:
    return sorted([*ROOT.glob("docs/pages/**/*.md"), *(ROOT / name for name in DOCUMENTS)])


def _of(path: Path) -> Iterator[Block]:
    text = path.read_text(encoding="utf-8")
    for found in FENCE.finditer(text):
        lines = (line.removeprefix(found[1]) for line in found[3].splitlines())
        place = text[: found.start()].count("\n") + 1
        yield Block(path.relative_to(ROOT).as_posix(), place, found[2], "\n".join(lines))


def shell_lines(text: str) -> list[list[str]]:
    """The words of each line."""
    return [shlex.split(line) for line in raw_lines(text)]


def raw_lines(text: str) -> list[str]:
    """Those that go on joined, without comments."""
    joined = re.sub(r"\\\n\s*", " ", text)
    return [kept for line in joined.splitlines() if (kept := re.sub(r"(^|\s)#.*", "", line).strip())]


def command_of(words: list[str]) -> tuple[Any, list[str]] | None:
    """The command that a line begins with, and what it is given; None where there is none of this name."""
    command, rest = COMMANDS[words[0]], words[1:]
    while (inner := getattr(command, "commands", None)) is not None:
        if not rest or rest[0].startswith("-"):
            return command, rest
        if rest[0] not in inner:
            return None
        command, rest = inner[rest[0]], rest[1:]
    return command, rest


def options_of(command: Any) -> set[str]:
    """All that it takes; those that are no parameters of typer's are told at the end of its help."""
    known = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    told = " ".join(filter(None, (command.epilog, command.help)))
    return known | {*OPTION.findall(told), "--help", "-h"}

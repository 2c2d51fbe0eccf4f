"""All commands of `align` and `align-eval`, with their arguments and options, as they tell of themselves."""

from __future__ import annotations

import re
from typing import Any

from typer.main import get_command

from docs.generate.tables import cell

OPTION = re.compile(r"(?<!`)(--[a-z][a-z-]+)")


def commands() -> str:
    from align.cli.main import app as align
    from align_eval.cli import app as align_eval

    parts: list[str] = []
    for name, app in (("align", align), ("align-eval", align_eval)):
        parts.append(f"## {name}")
        parts += [_one(f"{name} {path}", command) for path, command in leaves(get_command(app))]
    return "\n\n".join(parts)


def leaves(command: Any, path: str = "") -> list[tuple[str, Any]]:
    """The words of each command, and what it is."""
    inner = getattr(command, "commands", None)
    if inner is None:
        return [(path, command)]
    return [leaf for name, c in inner.items() for leaf in leaves(c, f"{path} {name}".strip())]


def _one(words: str, command: Any) -> str:
    arguments = " ".join(_argument(p) for p in command.params if p.param_type_name == "argument")
    parts = [f"### {words}", cell(" ".join((command.help or "").split())), f"```text\n{words} {arguments}\n```"]
    if rows := [_option(p) for p in command.params if p.param_type_name == "option"]:
        parts.append("| option | meaning |\n| --- | --- |\n" + "".join(rows))
    if command.epilog:
        parts.append(OPTION.sub(r"`\1`", cell(" ".join(command.epilog.split()))))
    return "\n\n".join(parts)


def _argument(parameter: Any) -> str:
    return parameter.metavar or parameter.name.upper()


def _option(parameter: Any) -> str:
    names = ", ".join(f"`{name}`" for name in parameter.opts)
    return f"| {names} | {cell(getattr(parameter, 'help', '') or '')} |\n"

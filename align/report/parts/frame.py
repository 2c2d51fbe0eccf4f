"""How a page of ours is written: by templates that escape all they are given, with a style and a script inside.

A page asks for nothing from anywhere, and its content security policy forbids it to.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from align.errors import UserError
from align.report.parts.embedded import block
from align.system.files import replace_file
from align.system.terminal import visible

NUMBER = re.compile(r"(?<=\d) (?=[±%])|(?<=±) (?=\d)")
OURS = "align.report"  # the package whose templates/ every page may use


def render(template: str, scripts: Sequence[str], package: str = OURS, **values: Any) -> str:
    """The page of a template, which extends frame.html.j2. Its own package goes before ours."""
    script = "\n".join(packaged(name, package) for name in scripts)
    style = "".join(packaged("page.css", one) for one in dict.fromkeys((OURS, package)))
    found = environment(package).get_template(template)
    return found.render(policy=policy(script), style=Markup(style), script=Markup(script), **values)


@cache
def environment(package: str) -> Environment:
    made = Environment(
        loader=FunctionLoader(lambda name: packaged(name, package)),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_shown,
        auto_reload=False,
    )
    made.globals["block"] = block
    made.filters["together"] = together
    return made


def together(words: str | Markup) -> str | Markup:
    """A sentence in which no line ends between a number and its error or its sign."""
    return type(words)(NUMBER.sub("\N{NO-BREAK SPACE}", str(words)))


def _shown(value: Any) -> Any:
    """Runs before the escaping: in what is no markup of ours, characters that hide or reorder others become visible."""
    return visible(value) if isinstance(value, str) and not hasattr(value, "__html__") else value


@cache
def packaged(name: str, package: str) -> str:
    """A file of the package's templates/, or of ours where it has none of that name."""
    folders = [files(one).joinpath("templates") for one in (package, OURS)]
    found = next(folder.joinpath(name) for folder in folders if folder.joinpath(name).is_file())
    return found.read_text(encoding="utf-8")


def policy(script: str) -> str:
    """The content security policy of a page that has this script, and nothing from elsewhere."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; base-uri 'none'"


def save(target: Path, text: str) -> None:
    """Whole or not at all: a reader never sees half a page. UserError where it cannot be written."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        replace_file(target, text)
    except OSError as error:
        finding = f"the report cannot be written: {error.strerror}"
        raise UserError(f"{target}: {finding}; name another file with -o") from None

"""What mkdocs calls while it builds: pages are completed, formulas are drawn, methods get their places."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

from align import __version__
from docs.generate import commands, methods, metrics, recipes, rewards, settings, sizes, tasks, words
from docs.generate.files import REPOSITORY, included
from docs.generate.mathematics import with_mathml

MADE: dict[str, Callable[[], str]] = {
    "settings": settings.settings,
    "methods": methods.index,
    "answering": tasks.answering,
    "assets": recipes.assets,
    "commands": commands.commands,
    "judging": tasks.judging,
    "metrics": metrics.metrics,
    "recipes": recipes.recipes,
    "rewards": rewards.rewards,
    "shapes": rewards.shapes,
    "sizes": sizes.sizes,
    "tasks": tasks.tasks,
    "translations": words.translations,
}
PICTURES = {"images/evaluation.png": "eval/evaluation.png"}
MARK = re.compile(r"^<!-- (made|include): (.+?) -->$", re.MULTILINE)


def on_config(config: Any) -> Any:
    """The navigation has all methods, by family; the foot of a page the version."""
    config.copyright = f"align {__version__}, Apache-2.0"
    for part in config.nav:
        if "Methods" in part:
            part["Methods"] = ["methods/index.md"] + [
                {family: [{e.name: f"methods/{e.name}.md"} for e in entries]}
                for family, entries in methods.families().items()
            ]
    return config


def on_files(files: Any, config: Any) -> Any:
    """Pictures that stand elsewhere in the repository."""
    for name, place in PICTURES.items():
        files.append(File.generated(config, name, abs_src_path=str(REPOSITORY / place)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """A page with what is made in the places of its marks; of a method all that is read off its file."""
    path = Path(page.file.src_uri)
    if path.parent.name == "methods" and path.stem != "index":
        return methods.page(path.stem, markdown)
    return MARK.sub(_made, markdown)


def _made(mark: re.Match[str]) -> str:
    """`<!-- made: NAME -->` by a function, `<!-- include: FILE[: SECTION] -->` out of a document."""
    kind, name = mark[1], mark[2]
    if kind == "made":
        return MADE[name]()
    place, _, section = name.partition(": ")
    return included(place, section)


def on_page_content(html: str, **_: Any) -> str:
    return with_mathml(html).replace(" ± ", "\u00a0±\u00a0")  # a number and its error stay together

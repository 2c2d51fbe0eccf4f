"""What is shipped: recipes, by their first lines, those that are no method's own whole; models and rows."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from align.methods.base import method_names
from align.recipe.text import recipe_names, shipped
from docs.generate.files import REPOSITORY
from docs.generate.tables import cell


def recipes() -> str:
    """A table of all, and the text of those that have no method's page."""
    rows = "".join(_row(name) for name in recipe_names())
    others = [name for name in recipe_names() if name not in method_names()]
    whole = [f"### {name}\n\n```yaml\n{_text(name).strip()}\n```" for name in others]
    head = "| recipe | what it does | starts from |\n| --- | --- | --- |\n"
    return "\n\n".join([f"{head}{rows}", "## Those of no single method", *whole])


def _row(name: str) -> str:
    model = yaml.safe_load(_text(name))["model"].get("model_name_or_path", "")
    place = f"methods/{name}.md" if name in method_names() else f"#{name}"
    start = f"`{model}`" if model else "new weights"
    return f"| [`{name}`]({place}) | {cell(_about(name))} | {start} |\n"


def _about(name: str) -> str:
    """The first sentence of its head."""
    head = (line.lstrip("# ") for line in _text(name).split("\nmethod:")[0].splitlines() if line.startswith("#"))
    return re.split(r"(?<!Dr)\. ", " ".join(head))[0].rstrip(".") + "."


def _text(name: str) -> str:
    return (shipped("recipes") / f"{name}.yaml").read_text(encoding="utf-8")


def assets() -> str:
    """Models before rows, each as the title of its README has it."""
    folders = sorted(path.parent for path in (REPOSITORY / "align/assets").glob("*/README.md"))
    rows = sorted(_asset(folder) for folder in folders)
    return "| name | what it is |\n| --- | --- |\n" + "".join(f"| {name} | {cell(what)} |\n" for _, name, what in rows)


def _asset(folder: Path) -> tuple[bool, str, str]:
    files = sorted(file.name for file in folder.glob("*.jsonl"))
    title = (folder / "README.md").read_text(encoding="utf-8").splitlines()[0].lstrip("# ")
    return bool(files), ", ".join(f"`asset:{folder.name}{f'/{file}' if file else ''}`" for file in files or [""]), title

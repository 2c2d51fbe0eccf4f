"""`align init`: a shipped recipe as a file of one's own, with its comments."""

from __future__ import annotations

from pathlib import Path

from align.errors import UserError, did_you_mean
from align.recipe.text import recipe_names, shipped
from align.system.files import replace_file
from align.system.terminal import say


def write(name: str, out: Path | None) -> None:
    """Prints it where no file is named. UserError for a name that there is none of, and for a file that is there."""
    if name not in recipe_names():
        near = did_you_mean(name, recipe_names())
        raise UserError(f"{name}: no such recipe; there are {', '.join(recipe_names())}.{near}")
    text = (shipped("recipes") / f"{name}.yaml").read_text(encoding="utf-8")
    if out is None:
        say(text, end="")
        return
    if out.exists():
        raise UserError(f"{out}: is there already; name another file with -o, or move it away")
    if not out.parent.is_dir():
        raise UserError(f"{out.parent}: no such folder")
    replace_file(out, text)
    say(f"{out}: set model.model_name_or_path and data.train, then: align check {out}")

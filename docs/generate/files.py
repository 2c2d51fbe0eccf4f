"""Parts of documents of this repository, and what stands in the site in the place of their links."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
HEADING = re.compile(r"^(#+) (.*)$")
LINK = re.compile(r"(?<!!)\[([^\]]+)\]\((?!https?:|#)([^)#\s]+)(#[^)\s]+)?\)")
INDENTS = {2: 4, 3: 4, 5: 8}  # of what goes on with a point, and of points inside of it
PLACES = {"launch/README.md": "clusters.md", "CONTRIBUTING.md": "contributing.md", "SECURITY.md": "security.md",
          "STUDIES.md": "studies.md"}  # fmt: skip


def read(name: str) -> str:
    return (REPOSITORY / name).read_text(encoding="utf-8")


def included(name: str, section: str = "") -> str:
    """A document without its title, or one of its sections without its heading. ValueError where there is none."""
    lines, level, kept = read(name).splitlines(), 0, list[str]()
    fenced = False
    for line in lines:
        fenced ^= line.startswith("```")
        found = None if fenced else HEADING.match(line)
        if found and level and len(found[1]) <= level:
            break
        if found and not level and found[2] == (section or found[2]):
            level = len(found[1])
            continue
        if level:
            kept.append(f"#{line}" if found and section and level > 2 else line)
    if not level:
        raise ValueError(f"{name}: has no section {section!r}")
    return linked(indented("\n".join(kept).strip()), name)


def indented(text: str) -> str:
    """Lists inside of numbered lists as far from the margin as Python's Markdown wants them: by four."""
    lines, fenced = list[str](), False
    for line in text.splitlines():
        fenced ^= line.lstrip().startswith("```")
        depth = len(line) - len(line.lstrip())
        lines.append(line if fenced or depth not in INDENTS else " " * INDENTS[depth] + line.lstrip())
    return "\n".join(lines)


def linked(text: str, name: str) -> str:
    """Links to other documents lead to their pages here; of what has no page the name stays."""

    def at_home(found: re.Match[str]) -> str:
        target = posixpath.normpath(Path(name).parent / found[2])
        if target in PLACES:
            return f"[{found[1]}]({PLACES[target]}{found[3] or ''})"
        return found[1] if "`" in found[1] else f"`{found[1]}`"

    return LINK.sub(at_home, text)

"""Parts of documents of this repository, and what stands in the site in the place of their links."""

from __future__ import annotations

import re
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
HEADING = re.compile(r"^(#+) (.*)$")
LINK = re.compile(r"(?<!!)\[([^\]]+)\]\((?!https?:|#)([^)#\s]+)(#[^)\s]+)?\)")
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
    return linked("\n".join(kept).strip(), name)


def linked(text: str, name: str) -> str:
    """Links to other documents lead to their pages here; of what has no page the name stays."""

    def at_home(found: re.Match[str]) -> str:
        target = (Path(name).parent / found[2]).as_posix()
        if target in PLACES:
            return f"[{found[1]}]({PLACES[target]}{found[3] or ''})"
        return found[1] if "`" in found[1] else f"`{found[1]}`"

    return LINK.sub(at_home, text)

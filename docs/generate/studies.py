"""What STUDIES.md says of one method: the rows of its tables, under the headings where they stand."""

from __future__ import annotations

import re

from docs.generate.files import HEADING, read


def results_of(name: str) -> str:
    """Tables of those rows whose first cell names the method; empty where there are none."""
    parts: list[str] = []
    for title, words, table in _tables(read("STUDIES.md")):
        rows = [row for row in table[2:] if re.search(rf"`{name}( \w+)?`", row.split("|")[1])]
        if rows:
            parts.append("\n".join([f"**{title}.** {words}".strip(), "", *table[:2], *rows]))
    return "\n\n".join(parts)


def _tables(text: str) -> list[tuple[str, str, list[str]]]:
    """Heading, the paragraph above, and the lines of each table."""
    found: list[tuple[str, str, list[str]]] = []
    title = words = ""
    for block in re.split(r"\n\n+", text):
        if heading := HEADING.match(block):
            title, words = heading[2], ""
        elif block.startswith("|"):
            found.append((title, words, block.splitlines()))
            words = ""
        else:
            words = block.replace("\n", " ").strip() if len(block) < 300 else ""
    return found

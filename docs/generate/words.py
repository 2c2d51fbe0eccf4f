"""Other projects' words for our keys, as `align translate` knows them."""

from __future__ import annotations

from align.translate.words import PROJECTS, Words, table, trainers, words_of
from docs.generate.settings import keys
from docs.generate.tables import cell


def translations() -> str:
    """A table for each project: what a word stands under here; what has no meaning, or is not offered, and why."""
    parts: list[str] = []
    for project in PROJECTS:
        own = table(project)
        words = words_of(project)
        version = f" {own['version']}" if own["version"] else ""
        parts.append(
            f"### {own['project']}\n\nVersion{version}. Trainers: {', '.join(f'`{t}`' for t in trainers(project))}.\n\n"
            + _table(words)
        )
    return "\n\n".join(parts)


def _table(words: Words) -> str:
    rows = [(word, _place(place)) for word, place in words.here.items()]
    rows += [(word, f"no meaning: {cell(why)}") for word, why in words.no_meaning.items()]
    rows += [(word, f"**not offered:** {cell(why)}") for word, why in words.not_offered.items()]
    body = "".join(f"| `{word}` | {said} |\n" for word, said in sorted(rows))
    return f'??? note "{len(rows)} words"\n\n' + _indented(f"| there | here |\n| --- | --- |\n{body}")


def _indented(text: str) -> str:
    return "".join(f"    {line}\n" for line in text.splitlines())


def _place(place: str) -> str:
    """A key leads to its line in the settings."""
    if place.startswith("method."):
        return f"`{place}`"
    return f"[`{place}`](settings.md#{place})" if place in keys() else cell(place)

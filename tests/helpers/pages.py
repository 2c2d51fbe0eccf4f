"""Pages as a reader sees them: well nested, their words, and the data that stand in them."""

from __future__ import annotations

import base64
import json
import zlib
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

VOID = {"meta", "br", "link", "img", "input", "hr"}
APART = {"td", "th", "tr", "div", "p", "li", "h1", "h2", "h3", "span", "b", "summary", "figcaption", "output", "text"}
LOADERS = {"src", "href", "srcset", "data", "action", "poster", "background", "xlink:href", "formaction"}


class Reader(HTMLParser):
    """Checks the nesting of tags, and collects what a reader sees."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.numbers: list[str] = []
        self.text: list[str] = []
        self.blocks: list[str] = []  # of data, as they stand

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), f"<{tag}> repeats an attribute"
        self.tags.append((tag, dict(attrs)))
        if tag in APART:
            self.text.append(" ")
        if tag == "data":
            self.numbers.append(str(dict(attrs)["value"]))
        if tag == "script" and dict(attrs).get("type") == "application/json":
            self.blocks.append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open[-1] == tag, f"</{tag}> closes <{self.open[-1]}>"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "script"):
            self.text.append(data)
        elif self.open and self.open[-1] == "script" and self.tags[-1][1].get("type"):
            self.blocks[-1] += data

    @property
    def words(self) -> str:
        return " ".join("".join(self.text).split())

    @property
    def charts(self) -> list[Any]:
        """What the script draws charts from."""
        return [found for block in self.blocks if "plot" in (found := unpacked(block))]

    @property
    def finders(self) -> list[Any]:
        """Completions that can be searched."""
        return [found for block in self.blocks if "prompts" in (found := unpacked(block))]

    def having(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.tags if name == tag]


def read(path: Path) -> Reader:
    reader = Reader()
    reader.feed(path.read_text(encoding="utf-8"))
    reader.close()
    assert not reader.open, f"never closed: {reader.open}"
    return reader


def unpacked(block: str) -> Any:
    """Of a script element that holds data."""
    value = json.loads(block)
    if isinstance(value, dict) and "deflated" in value:
        return json.loads(zlib.decompress(base64.b64decode(value["deflated"]), -zlib.MAX_WBITS))
    return value

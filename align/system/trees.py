"""Nested values out of files that are not ours: how deep they go, and how many they are with aliases written out."""

from __future__ import annotations

from typing import Any, TypeVar

import yaml
from yaml.scanner import ScannerError

T = TypeVar("T")
DEEPEST = 100
MOST = 100_000


def bounded(value: T, most: int = MOST) -> T:
    """The value, which recursive code may go through. ValueError where it is nested too deeply, holds itself by an
    alias of YAML, or holds more than `most` values, each alias counted wherever it stands."""
    count, open_ends = 0, [(0, value)]
    while open_ends:
        depth, found = open_ends.pop()
        inner = list(found.values()) if isinstance(found, dict) else found if isinstance(found, list) else []
        count += 1 + len(inner)
        if depth > DEEPEST:
            raise ValueError(f"nested more than {DEEPEST} deep; does an alias (*) stand inside of its own anchor (&)?")
        if count > most:
            raise ValueError(f"more than {most:,} values, where each alias (*) is written out")
        open_ends += [(depth + 1, v) for v in inner if isinstance(v, dict | list)]
    return value


class Shallow(yaml.SafeLoader):
    """YAML that is nested no deeper than `bounded` allows: the scanner takes the square of the depth in time."""

    def fetch_flow_collection_start(self, TokenClass: Any) -> None:
        self._refuse(self.flow_level)
        super().fetch_flow_collection_start(TokenClass)

    def add_indent(self, column: int) -> bool:
        self._refuse(len(self.indents))
        return super().add_indent(column)

    def _refuse(self, depth: int) -> None:
        if depth > DEEPEST:
            raise ScannerError(None, None, f"nested more than {DEEPEST} deep", self.get_mark())

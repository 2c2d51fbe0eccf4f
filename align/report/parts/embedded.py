"""Data inside an HTML page: JSON that no text can break out of, and deflated where it is large.

A block is a script element of a type that browsers do not run. In plain ones every character is escaped that could end
the element or begin a comment, and the two line ends that JavaScript knows and JSON does not. Large ones are deflated
(raw, as `DecompressionStream("deflate-raw")` reads it) and written in base64.
"""

from __future__ import annotations

import base64
import json
import zlib
from typing import Any

from markupsafe import Markup

PLAIN = 32_000  # characters of JSON up to which a block is left readable
ESCAPED = {ord(char): f"\\u{ord(char):04x}" for char in "<>&\u2028\u2029"}
LEVEL = 6  # of deflate
NAMELESS = '<script type="application/json">'


def block(name: str, value: Any, plain: int | None = None) -> Markup:
    """A script element with the id `name`, if it has one; `plain`: characters up to which it is left readable."""
    text = json_of(value)
    short = len(text) <= (PLAIN if plain is None else plain)
    inside = text.translate(ESCAPED) if short else f'{{"deflated":"{deflated(text)}"}}'
    start = Markup('<script type="application/json" id="{}">').format(name) if name else Markup(NAMELESS)
    return start + Markup(f"{inside}</script>")


def json_of(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def deflated(text: str) -> str:
    """Base64 of the raw deflate stream of its UTF-8; half a character pair becomes an escape of JSON."""
    packer = zlib.compressobj(LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
    data = packer.compress(text.encode(errors="backslashreplace")) + packer.flush()
    return base64.b64encode(data).decode()

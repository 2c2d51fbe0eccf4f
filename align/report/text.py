"""Words and numbers on a page: numbers get their error bars, and sentences of ours are made safe to hold any words."""

from __future__ import annotations

import math
import re

import markupsafe
from markupsafe import Markup

from align.methods.metrics import about
from align.system.terminal import visible

Number = float | int  # JSON has both

MINUS = "\N{MINUS SIGN}"
MOST_PLACES = 8  # behind the point; smaller numbers are written with an exponent
ENDING = re.compile("p+o$")  # of a method's name: ...PO, ...PPO
HEADS = {"dr": "Dr. "}


def escape(text: object) -> Markup:
    """Text that cannot leave its place: markup is escaped, characters that hide or reorder others become visible."""
    return text if isinstance(text, Markup) else markupsafe.escape(visible(text))


def said(sentence: str, *words: object) -> Markup:
    """A sentence of ours, markup and all, with anybody's words in the places of its {}: these are escaped."""
    return Markup(sentence).format(*map(escape, words))


def clip(text: str, limit: int) -> str:
    """At most `limit` characters, and how many were left out."""
    return text if len(text) <= limit else f"{text[:limit]} … ({len(text) - limit:,} more characters)"


def label(key: str) -> str:
    """`eval/grad_norm` as people say it."""
    last = key.rsplit("/", 1)[-1]
    words = last.replace("_", " ").capitalize().split()
    plain = " ".join(word.upper() if word.lower() in ("dpo", "sft", "kl") else word for word in words)
    return about(key).title or plain


def method_label(name: str) -> str:
    """`dpo` -> DPO, `simpo` -> SimPO, `vc_ppo` -> VC-PPO, `reward_model` -> Reward model, `package:Class` -> Class."""
    name = name.rsplit(":", 1)[-1]
    if not name.islower():
        return name
    head, _, tail = name.rpartition("_")
    if len(name) > 4 and not tail.endswith("po"):
        return name.replace("_", " ").capitalize()
    of = tail if len(tail) <= 4 else ENDING.findall(tail)[0]
    first = HEADS.get(head, f"{head.upper() if len(head) < 3 else head.capitalize()}-" if head else "")
    return first + tail.removesuffix(of).capitalize() + of.upper()


def is_share(key: str) -> bool:
    """Whether the numbers under this key lie between 0 and 1 and read better in per cent."""
    return about(key).share


def short(value: Number) -> str:
    """Four significant digits, thousands apart, small numbers as 5e-5."""
    if not math.isfinite(value):
        return str(value)
    size = abs(value)
    if size >= 1000:
        return f"{value:,.0f}"
    if 0 < size < 1e-3:
        mantissa, exponent = f"{value:.3e}".split("e")
        return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"
    return f"{value:.4g}"


def amount(value: Number, stderr: Number | None = None, *, share: bool = False, signed: bool = False) -> str:
    """`89 ± 3 %`, `2.31 ± 0.04`: the error keeps one digit, two when it begins with 1; the value has as many places."""
    scale = 100.0 if share else 1.0
    value, unit = value * scale, " %" if share else ""
    sign = "+" if signed and value > 0 else ""
    if stderr is None or not (math.isfinite(stderr) and math.isfinite(value) and stderr >= 0):
        return f"{sign}{f'{value:.1f}' if share and math.isfinite(value) else short(value)}{unit}".replace("-", MINUS)
    error = stderr * scale
    if error == 0:
        return f"{sign}{short(value)} ± 0{unit}".replace("-", MINUS)
    leading, exponent = f"{error:.16e}".split("e")
    if (places := max(0, -int(exponent) + (float(leading) < 1.95))) > MOST_PLACES:
        return f"{sign}{short(value)} ± {short(error)}{unit}".replace("-", MINUS)
    return f"{sign}{value:,.{places}f} ± {error:,.{places}f}{unit}".replace("-", MINUS)


def exact(value: Number, words: str) -> Markup:
    """The words, and behind them the number as it stands in the file."""
    return said('<data value="{}">{}</data>', repr(value), words)


def listed(words: list[str]) -> str:
    """`a, b and c`."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"

"""Formulas, written as LaTeX between dollar signs, as MathML: browsers draw it without scripts or fonts of others."""

from __future__ import annotations

import html
import re

from latex2mathml.converter import convert

INLINE = re.compile(r'<span class="arithmatex">\\\((.*?)\\\)</span>', re.DOTALL)
BLOCK = re.compile(r'<div class="arithmatex">\s*\\\[(.*?)\\\]\s*</div>', re.DOTALL)
LOG_AFTER = re.compile(r"(?<=[\w})\]])\s*\\log\b")  # beta log, where a font sets no space between them
LOG_BEFORE = re.compile(r"\\log\b\s*(?=\\(?!left))")  # log of a fraction, or of a function
UNKNOWN = re.compile(r"<m\w+>\\[a-zA-Z]+</m\w+>")


def with_mathml(page: str) -> str:
    """The HTML of a page, its formulas drawn. ValueError names one that cannot be."""
    page = INLINE.sub(lambda m: f'<span class="arithmatex">{mathml(m[1], "inline")}</span>', page)
    return BLOCK.sub(lambda m: f'<div class="arithmatex">{_lines(m[1])}</div>', page)


def _lines(formula: str) -> str:
    """Its parts, which stand side by side where there is room for them."""
    parts = (part.strip() for part in formula.split(r"\qquad"))
    return " ".join(mathml(part, "block") for part in parts if part)


def mathml(formula: str, display: str) -> str:
    """One formula, with its source beside it, for whoever cannot draw it."""
    latex = html.unescape(formula).strip()
    spaced = LOG_BEFORE.sub(r"\\log\\,", LOG_AFTER.sub(r"\\,\\log", latex))
    made = convert(spaced, display=display)
    if unknown := UNKNOWN.search(made):
        raise ValueError(f"formula {latex!r}: {unknown[0]} is not known")
    return made.replace("<math ", f'<math alttext="{html.escape(" ".join(latex.split()))}" ', 1)

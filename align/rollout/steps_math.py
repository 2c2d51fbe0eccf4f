r"""Solutions in the style of MATH cut into steps: sentences and lines, no formula cut without need, none very long.

Source: VinePPO (Kazemnejad et al., arXiv:2410.01679), the rule of the authors' code (McGill-NLP/VinePPO,
math_extract_steps_inplace.py). Where this one differs:

- A text that cannot be divided is one step. Theirs fails where it has fewer than 20 characters and ends in no formula
  with a period, and on formulas within an environment; a formula of several lines that comes twice in a part is cut at
  the lines of the first only.
- A word of one or two letters keeps its period also behind a bracket or a quotation mark, "(cf. Euler)".
- The `\[` of a line break `\\[2pt]` opens no formula.
- The most central mark is sought in the characters of the text; theirs counts every formula as 60.
- Text and formulas are told apart once, in the whole text. Theirs looks again at every part that is too long, and takes
  a formula of which it sees a piece for text.
- `,$`, `,$$`, `,\)` and `,\]` count at the end of a formula only, so that no cut comes between `$` and what it opens,
  or between the dollars of `$$`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

SHORT = 20  # characters; a shorter part joins the next one
LONG = 100  # characters; a longer part is halved, if there is a mark to cut at
TINY = 3  # characters; a shorter piece of a formula joins the next one

OPENING = re.compile(
    r"""
    \[asy\]                             # a drawing
    | \$\\begin\{tabular\}              # its cells may have dollars of their own
    | \\begin\{(?P<environment>[^{}\n]+)\}
    | (?<!\\) (?: \\\( | \\\[ )         # behind a backslash it is a line break with its spacing
    | (?<!\\) \$\$?                     # behind a backslash it is money
    """,
    re.VERBOSE,
)
DOLLAR = r"(?<!\\)\$(?!\$)"
CLOSING = {  # tried in this order
    "[asy]": (r"\[/asy\]",),
    r"$\begin{tabular}": (r"\\end\{tabular\}\$", DOLLAR),
    r"\(": (r"\\\)",),
    r"\[": (r"\\\]",),
    "$$": (r"\$\$",),
    "$": (DOLLAR,),
}
CLOSED_SENTENCE = (".$", ".$$", r".\)", r".\]")  # a formula that ends a sentence
HIDDEN = "\0"  # stands for each character of a formula

SENTENCE_END = re.compile(
    r"""
    (?<! (?<![\w\0]) [A-Za-z] )            # no abbreviation, as "e.g."
    (?<! (?<![\w\0]) [A-Za-z][A-Za-z] )    # or "Mr."; the "th" of "$n$th" is no word
    \. (?= \s+[A-Z] )
    """,
    re.VERBOSE,
)
BARE_OPENING = re.compile(r"\$\$? | \\\( | \\\[ | \\begin\{[^}]*\} | \[asy\]", re.VERBOSE)

WORD_MARKS = [re.compile(mark) for mark in (r",", r"\sand(?=\s)", r":", r"\sto(?=\s)")]  # the cut is behind the mark
CLOSING_MARKS = [re.compile(mark) for mark in (r",\$\$?", r",\\\)", r",\\\]")]
SIGN_MARKS = [re.compile(mark) for mark in (r"=", r"\\equiv", r"\+", r"\\cancelto")]
LEAST_WORDS = 40  # characters of each half, where text is cut
LEAST_MATH = 20  # and where a formula may be


@dataclass(frozen=True)
class Solution:
    """A text and its formulas."""

    text: str
    formulas: list[tuple[int, int]]  # [begin, end), in order, apart from each other
    words: str  # the text with its formulas hidden; the same length

    @cached_property
    def ends(self) -> set[int]:
        return {end for _, end in self.formulas}


def math(text: str) -> list[int]:
    """The boundaries of `text`: 0, the beginning of every further step, and its length, strictly increasing."""
    formulas = find_formulas(text)
    solution = Solution(text, formulas, _hide(text, formulas))
    parts = _joined(solution.words, _sentences(solution.words), _is_fragment)
    closed = (end for begin, end in formulas if text[begin:end].endswith(CLOSED_SENTENCE))
    parts = _joined(text, [*parts, *closed], _is_short)
    breaks = (i for begin, end in formulas for i in range(begin, end) if text[i] == "\n")
    parts = _joined(text, [*parts, *breaks], _is_scrap)
    return _halved(solution, parts)


def find_formulas(text: str) -> list[tuple[int, int]]:
    """Formulas, drawings, tables and environments as [begin, end); none within another one."""
    formulas: list[tuple[int, int]] = []
    absent: set[str] = set()  # what does not close from here on, nor further on: a long text stays cheap
    at = 0
    while opening := OPENING.search(text, at):
        at = opening.end()
        for closing in CLOSING.get(opening[0]) or (re.escape(rf"\end{{{opening['environment']}}}"),):
            found = None if closing in absent else re.compile(closing).search(text, opening.end())
            if found:
                at = found.end()
                formulas.append((opening.start(), at))
                break
            absent.add(closing)
    return formulas


def _hide(text: str, formulas: Iterable[tuple[int, int]]) -> str:
    pieces: list[str] = []
    at = 0
    for begin, end in formulas:
        pieces += [text[at:begin], HIDDEN * (end - begin)]
        at = end
    return "".join([*pieces, text[at:]])


def _sentences(words: str) -> list[int]:
    """Cuts behind sentences and before newlines, outside formulas."""
    return [*(m.end() for m in SENTENCE_END.finditer(words)), *(m.start() for m in re.finditer("\n", words))]


def _is_fragment(words: str) -> bool:
    """A line of a few words, or of none: the beginning of the next one."""
    return len(words) < SHORT and HIDDEN not in words and not words.endswith(".")


def _is_short(part: str) -> bool:
    """Whatever else is too little for a step, unless it is a sentence that a formula closes."""
    return len(part) < SHORT and not part.endswith(CLOSED_SENTENCE)


def _is_scrap(part: str) -> bool:
    """The beginning of a formula without anything of it, or next to nothing."""
    return len(part) < TINY or BARE_OPENING.fullmatch(part.strip()) is not None


def _joined(text: str, cuts: Iterable[int], is_small: Callable[[str], bool]) -> list[int]:
    """The boundaries of the parts, each small one joined to the next; the last one, if small, to the one before."""
    kept = [0]
    for cut in sorted({*cuts, len(text)} - {0}):
        if not is_small(text[kept[-1] : cut]):
            kept.append(cut)
    if kept[-1] < len(text):  # the last part is small
        kept = [*kept[:-1], len(text)] if len(kept) > 1 else [0, len(text)]
    return kept


def _halved(solution: Solution, boundaries: list[int]) -> list[int]:
    """Parts that are too long are cut in two, and these again, as long as there is where to cut."""
    found = list(boundaries)
    todo = list(pairwise(boundaries))
    while todo:
        begin, end = todo.pop()
        cut = _middle(solution, begin, end) if end - begin > LONG else None
        if cut is not None:
            found.append(cut)
            todo += [(begin, cut), (cut, end)]
    return sorted(found)


def _middle(solution: Solution, begin: int, end: int) -> int | None:
    """Where to cut a part: behind the most central of the first kind of mark that leaves enough on both sides."""
    kinds = [(mark, solution.words, LEAST_WORDS) for mark in WORD_MARKS]
    kinds += [(mark, solution.text, LEAST_MATH) for mark in (*CLOSING_MARKS, *SIGN_MARKS)]
    for mark, view, least in kinds:
        places = [m.end() for m in mark.finditer(view, begin, end)]
        if mark in CLOSING_MARKS:
            places = [place for place in places if place in solution.ends]
        cut = min(places, key=lambda place: abs(2 * place - begin - end), default=begin)
        if min(cut - begin, end - cut) >= least:
            return cut
    return None

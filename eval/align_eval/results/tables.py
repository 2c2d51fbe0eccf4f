"""The sections as tables: CSV with every column of every estimate, Markdown and LaTeX with the number and its interval.

What is missing is written as missing, with its reason. Under a Markdown or LaTeX table stands what its intervals are.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from align.report.text import short
from align.system.files import inner_folder, replace_file
from align_eval.results.document import Results, Sections
from align_eval.results.families import FAMILIES, told_family
from align_eval.results.wording import how, p_value, rests_on, told
from align_eval.statistics.estimate import Estimate

FOLDER = "tables"
ACTING = ("=", "+", "-", "@", "\t", "\r")  # how a cell begins that a spreadsheet would calculate
TITLES = {
    "leaderboard": "Leaderboard",
    "pairs": "Pairs of models",
    "scores": "Scores",
    "differences": "Paired differences",
    "judges": "Judges",
    "agreement": "Agreement",
    "frontier": "Frontier",
    "styles": "Ratings at equal style",
    "effects": "What style earns",
}
SIGNED = ("difference", "moved", "effect")
ESTIMATE = [f.name for f in fields(Estimate)]
LATEX = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "&": r"\&",
        "%": r"\%",
        "$": r"\$",
        "#": r"\#",
        "_": r"\_",
        "{": r"\{",
        "}": r"\}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "\N{MINUS SIGN}": "$-$",
    }
)


@dataclass(frozen=True, kw_only=True)
class Table:
    """A section: one row for each of its rows, one column for each field that any of them has."""

    name: str
    columns: list[str]
    rows: list[list[Any]]  # Estimate, None, numbers, words, lists of words, p-values by test
    family: str = ""  # over what p-values are adjusted

    @property
    def methods(self) -> list[str]:
        """What the intervals of each column are, each once; and over what p-values are adjusted."""
        told: dict[str, None] = {}
        for row in self.rows:
            for column, cell in zip(self.columns, row, strict=True):
                if isinstance(cell, Estimate) and (words := how(cell)):
                    told[f"{column.replace('_', ' ')}: {words}"] = None
        return [*told, *([f"p-values: {self.family}"] if self.family else [])]


def tables(results: Results) -> list[Table]:
    return [
        _table(f.name, rows) for f in fields(Sections) if (rows := getattr(results.sections, f.name))
    ] + ([_table("failures", results.failures)] if results.failures else [])


def write_tables(folder: Path, results: Results) -> list[Path]:
    """Three files for each section under `folder`/tables; those of sections that are no more go."""
    inside = inner_folder(folder / FOLDER)
    written: list[Path] = []
    for table in tables(results):
        for ending, text in (("csv", as_csv(table)), ("md", as_markdown(table)), ("tex", as_latex(table))):
            written.append(inside / f"{table.name}.{ending}")
            replace_file(written[-1], text)
    for name in (*TITLES, "failures"):
        for old in (inside / f"{name}.{ending}" for ending in ("csv", "md", "tex")):
            if old not in written:
                old.unlink(missing_ok=True)
    return written


def as_csv(table: Table) -> str:
    """An estimate takes a column for each of its fields: `win_rate`, `win_rate_low`, ...; a missing value is empty."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    kinds = [_kind([row[i] for row in table.rows]) for i in range(len(table.columns))]
    writer.writerow([name for column, kind in zip(table.columns, kinds, strict=True) for name in _names(column, kind)])
    for row in table.rows:
        writer.writerow([_harmless(v) for cell, kind in zip(row, kinds, strict=True) for v in _values(cell, kind)])
    return out.getvalue()


def as_markdown(table: Table) -> str:
    head = [_heading(c) for c in table.columns]
    lines = [f"# {TITLES.get(table.name, table.name.capitalize())}", "", _line(head), _line(["---"] * len(head))]
    lines += [_line([_piped(words) for words in _words(table, row)]) for row in table.rows]
    return "\n".join([*lines, "", *(f"- {note}" for note in table.methods)]).rstrip() + "\n"


def as_latex(table: Table) -> str:
    """A tabular; the notes are comments before it, to be put into the caption."""
    lines = [f"% {note.translate(LATEX)}" for note in table.methods]
    lines += [rf"\begin{{tabular}}{{{'l' * len(table.columns)}}}", r"\hline"]
    lines += [" & ".join(_heading(c).translate(LATEX) for c in table.columns) + r" \\", r"\hline"]
    lines += [" & ".join(_one_line(w).translate(LATEX) for w in _words(table, row)) + r" \\" for row in table.rows]
    return "\n".join([*lines, r"\hline", r"\end{tabular}"]) + "\n"


# ---- cells ----------------------------------------------------------------------------------------------------------


def _table(name: str, rows: Sequence[Any]) -> Table:
    columns = [f.name for f in fields(rows[0])]
    used = [c for c in columns if any(getattr(row, c) not in (None, "", {}) for row in rows)]
    family = told_family(rows) if name in FAMILIES else ""
    return Table(name=name, columns=used, rows=[[getattr(row, c) for c in used] for row in rows], family=family)


def _kind(cells: Sequence[Any]) -> list[str] | type | None:
    """Of a column: Estimate, the names in its dictionaries, or None for a plain one."""
    if any(isinstance(cell, Estimate) for cell in cells):
        return Estimate
    if any(isinstance(cell, dict) for cell in cells):
        return list(dict.fromkeys(key for cell in cells for key in cell))
    return None


def _names(column: str, kind: Any) -> Iterator[str]:
    if kind is Estimate:
        yield from (column if name == "value" else f"{column}_{name}" for name in ESTIMATE)
    elif isinstance(kind, list):
        yield from (f"{column}_{key}" for key in kind)
    else:
        yield column


def _values(cell: Any, kind: Any) -> Iterator[Any]:
    if kind is Estimate:
        yield from (getattr(cell, name) if cell else None for name in ESTIMATE)
    elif isinstance(kind, list):
        yield from (cell.get(key) for key in kind)
    else:
        yield "; ".join(map(str, cell)) if isinstance(cell, list) else cell


def _harmless(value: Any) -> Any:
    """A model may be called =2+2; in a spreadsheet it is not calculated."""
    return f"'{value}" if isinstance(value, str) and value.startswith(ACTING) else value


def _words(table: Table, row: Sequence[Any]) -> Iterator[str]:
    for column, cell in zip(table.columns, row, strict=True):
        if isinstance(cell, Estimate):
            n = rests_on(cell)
            yield told(cell, signed=column in SIGNED) + (f" ({n})" if n else "")
        elif isinstance(cell, dict):
            yield ", ".join(f"{key} {p_value(value)}" for key, value in cell.items())
        elif isinstance(cell, list):
            yield ", ".join(map(str, cell))
        elif isinstance(cell, float):
            yield short(cell)
        else:
            yield "missing" if cell is None else str(cell)


def _heading(column: str) -> str:
    return {"a": "A", "b": "B", "n": "n", "kl": "KL"}.get(column, column.replace("_", " ").capitalize())


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _piped(words: str) -> str:
    """Inside a cell of Markdown: no border, no markup, no line end."""
    return re.sub(r"([\\|`*_<>\[\]])", r"\\\1", _one_line(words))


def _one_line(words: str) -> str:
    return " ".join(words.split())

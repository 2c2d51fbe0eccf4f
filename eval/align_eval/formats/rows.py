"""Rows of this project's own records, for verdicts, labels of people or scores from anywhere: JSON lines.

    items     id, prompt, reference, category, columns
    answers   item, model, text, sample, stop, num_tokens, columns
    verdicts  item, models [one or two], judge, order (ab or ba), repeat, score, strong, why, raw, columns
    scores    item, model, metric, score, sample, why, columns

They are told apart by `id`, `text`, `judge` and `metric`. A verdict on two models without an order is read as one whose
order nobody knows. Nothing is lost either way.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from align.errors import UserError
from align.judges.base import Verdict
from align.system.files import inner_folder, replace_file
from align_eval.analysis.evaluation import Evaluation
from align_eval.formats.base import UNKNOWN_ORDER, Format, Found, Names, Row, as_lines, rows_of
from align_eval.records import Answer, Item, Score
from align_eval.store.rows import from_row, to_row


def read(files: Sequence[Path], names: Names) -> Found:
    found = Found()
    for path in files:
        for place, row in rows_of(path):
            if "id" in row and "prompt" in row:
                found.item(from_row(Item, row, place))
            elif "judge" in row:
                found.verdicts.append(from_row(Verdict, _ordered(row, found), place))
            elif "metric" in row:
                found.scores.append(from_row(Score, row, place))
            elif "text" in row:
                found.answers.append(from_row(Answer, row, place))
            else:
                raise UserError(f"{place}: is no item, answer, verdict or score: it has {', '.join(row)}")
    return found


def _ordered(row: Row, found: Found) -> Row:
    if row.get("order") or len(row.get("models", ())) < 2:
        return row
    found.losses["verdicts do not say which answer was shown first"] += 1
    return {**row, "order": "ab", "columns": {**row.get("columns", {}), **UNKNOWN_ORDER}}


def write(found: Evaluation, folder: Path) -> Counter[str]:
    inner_folder(folder)
    kinds = {"items": found.items, "answers": found.answers, "verdicts": found.verdicts, "scores": found.scores}
    for name, rows in kinds.items():
        if rows:
            replace_file(folder / f"{name}.jsonl", as_lines([to_row(row) for row in rows]))
    return Counter()


FORMAT = Format(name="rows", about="rows of items, answers, verdicts or scores as this project keeps them", read=read,
                write=write)  # fmt: skip

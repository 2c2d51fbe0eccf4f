"""AlpacaEval: lists of outputs and of annotations, as JSON lists or lines.

    outputs      instruction, output, generator, dataset, ...
    annotations  instruction, output_1, generator_1, output_2, generator_2, annotator, preference, raw_completion,
                 dataset, price_per_example, time_per_example, date, ...

A preference of 1 is for output_1, 2 for output_2, 1.5 a tie, as was 0 in old files; what lies between is a weight, so
the score of generator_1 is 2 - preference. null is missing. Instructions are the items: they have no ids, so an id is
made of the text. Which output was shown first is not in the files (AlpacaEval draws it): such verdicts have the column
`ordered: false`, and do not count for "first wins".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from align.errors import UserError
from align.judges.base import Verdict
from align.system.files import inner_folder, replace_file
from align.system.lines import safe_name
from align_eval.analysis.evaluation import Evaluation
from align_eval.analysis.games import is_shown
from align_eval.formats.base import (
    MESSAGES,
    UNKNOWN_ORDER,
    Format,
    Found,
    Names,
    Row,
    key_of,
    need,
    number,
    raw_of,
    rest,
    rows_of,
    text,
)
from align_eval.formats.base import as_lines as lines
from align_eval.items import as_text
from align_eval.records import Answer, Item

OLD_TIE = 0.0
ORDER_LOST = "verdicts do not say which output was shown first"
SIDES = ("1", "2")


def read(files: Sequence[Path], names: Names) -> Found:
    reader = _Reader(names)
    for path in files:
        for place, row in rows_of(path):
            reader.take(row, place)
    return reader.found


class _Reader:
    """Each text of a model once: annotations repeat those of the outputs."""

    def __init__(self, names: Names):
        self.found, self.names = Found(), names
        self.texts: dict[tuple[str, str], list[str]] = {}
        self.asked: Counter[tuple[str, tuple[str, ...], str]] = Counter()

    def take(self, row: Row, place: str) -> None:
        if "preference" not in row and "output" not in row:
            raise UserError(f"{place}: is no output or annotation of AlpacaEval: it has {', '.join(row)}")
        instruction = text(row, "instruction", place)
        item = key_of(instruction)
        self.found.item(Item(id=item, prompt=instruction, category=str(row.get("dataset") or "")))
        if "preference" not in row:
            columns = rest(row, "instruction", "dataset", "generator", "output")
            model = str(row.get("generator") or self.names.model)
            self._output(item, model, need(row, "output", place), place, columns)
            return
        for side in SIDES:
            self._output(item, text(row, f"generator_{side}", place), need(row, f"output_{side}", place), place)
        verdict = _verdict(item, row, place)
        repeat = self.asked[item, verdict.models, verdict.judge]
        self.asked[item, verdict.models, verdict.judge] += 1
        self.found.verdicts.append(replace(verdict, repeat=repeat))
        self.found.losses[ORDER_LOST] += 1

    def _output(self, item: str, model: str, said: object, place: str, columns: Row | None = None) -> None:
        if not model:
            raise UserError(f"{place}: misses generator; name the model with --model")
        if said is None:
            self.found.losses["outputs that are null are no answers"] += 1
            return
        before = self.texts.setdefault((item, model), [])
        if said not in before:
            sample = len(before)
            before.append(str(said))
            self.found.answers.append(
                Answer(item=item, model=model, text=str(said), sample=sample, columns=columns or {})
            )


def _verdict(item: str, row: Row, place: str) -> Verdict:
    preference = number(row["preference"])
    if preference is not None and preference != OLD_TIE and not 1 <= preference <= 2:
        raise UserError(f"{place}: preference: found {preference:g}; expected 1 to 2, 0 for a tie, or null")
    score = None if preference is None else 0.5 if preference == OLD_TIE else 2 - preference
    used = ("instruction", "dataset", "preference", "raw_completion", "annotator", *(f"{k}_{s}" for k in
            ("output", "generator") for s in SIDES))  # fmt: skip
    return Verdict(
        item=item,
        models=(text(row, "generator_1", place), text(row, "generator_2", place)),
        judge=str(row.get("annotator") or "annotator"),
        order="ab",
        score=score,
        why="" if score is not None else "the preference is null",
        raw=raw_of(row.get("raw_completion")),
        columns={**rest(row, *used), **UNKNOWN_ORDER},
    )


# ---- writing --------------------------------------------------------------------------------------------------------


def write(found: Evaluation, folder: Path) -> Counter[str]:
    losses: Counter[str] = Counter()
    inner_folder(folder)
    prompts = {item.id: as_text(item.prompt) for item in found.items}
    categories = {item.id: item.category for item in found.items}
    for name, ids in _shared(prompts).items():
        losses[f"items of one instruction become one item: {name:.40}"] += len(ids)
    for model in found.models:
        rows = [
            {**a.columns, "instruction": prompts.get(a.item, ""), "output": a.text, "generator": model,
             "dataset": categories.get(a.item, "")}
            for a in found.answers if a.model == model
        ]  # fmt: skip
        if rows:
            replace_file(folder / f"outputs-{safe_name(model)}.jsonl", lines(rows))
    texts = {(a.item, a.model): a.text for a in reversed(found.answers)}
    if rows := [_annotation(v, prompts, categories, texts) for v in found.verdicts if len(v.models) == 2]:
        replace_file(folder / "annotations.jsonl", lines(rows))
    losses["ids of items: instructions are the keys"] += sum(i.id != key_of(prompts[i.id]) for i in found.items)
    losses["references of items"] += sum(i.reference is not None for i in found.items)
    losses[MESSAGES] += sum(isinstance(i.prompt, list) for i in found.items)
    pairs = [v for v in found.verdicts if len(v.models) == 2]
    losses["orders of verdicts: which was shown first"] += sum(is_shown(v) for v in pairs)
    losses["verdicts on one answer (grades)"] += sum(len(v.models) == 1 for v in found.verdicts)
    losses["scores"] += len(found.scores)
    return losses


def _shared(prompts: dict[str, str]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for name, prompt in prompts.items():
        groups.setdefault(prompt, []).append(name)
    return {prompt: ids for prompt, ids in groups.items() if len(ids) > 1}


def _annotation(
    verdict: Verdict, prompts: dict[str, str], categories: dict[str, str], texts: dict[tuple[str, str], str]
) -> Row:
    one, two = verdict.models
    return {
        **{k: v for k, v in verdict.columns.items() if k not in UNKNOWN_ORDER},
        "instruction": prompts.get(verdict.item, ""),
        "output_1": texts.get((verdict.item, one)), "generator_1": one,
        "output_2": texts.get((verdict.item, two)), "generator_2": two,
        "dataset": categories.get(verdict.item, ""), "annotator": verdict.judge,
        "preference": None if verdict.score is None else 2 - verdict.score, "raw_completion": verdict.raw,
    }  # fmt: skip


FORMAT = Format(
    name="alpaca_eval",
    about="outputs (instruction, output, generator) and annotations (output_1, output_2, preference) of AlpacaEval",
    read=read,
    write=write,
)

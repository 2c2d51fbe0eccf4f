"""Arena-Hard (`arena-hard-auto`), both generations: JSON lines of three kinds, told apart by their keys.

    question.jsonl   v0.1: question_id, category, cluster, turns [{content}]; v2: uid, category, subcategory, prompt
    model_answer     v0.1: question_id, answer_id, model_id, choices [{index, turns [{content, token_len}]}], tstamp
                     v2: uid, ans_id, model, messages [{role, content: text or {answer}}], tstamp, metadata
    model_judgment   question_id or uid, model, judge, baseline (v2), category (v2), games [{score, judgment, ...}]

Of two games the first shows the baseline as A and the model as B, the second the other way round; a score is A>>B, A>B,
A=B, B>A or B>>A (>> is "much better"), null where it could not be read. v0.1 does not name the baseline: `--baseline`
does. One game is a grade: its score is a number. Verdicts have the models in the order (model, baseline).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from align.errors import UserError
from align.judges.base import Order, Verdict
from align.system.files import inner_folder, replace_file
from align.system.lines import safe_name
from align_eval.analysis.evaluation import Evaluation
from align_eval.formats.base import (
    MESSAGES,
    Format,
    Found,
    Names,
    Row,
    as_lines,
    need,
    number,
    raw_of,
    rest,
    rows_of,
    text,
)
from align_eval.items import as_text, content_of
from align_eval.records import Answer, Item

LABELS = {"A>>B": (1.0, True), "A>B": (1.0, False), "A=B": (0.5, False), "B=A": (0.5, False), "B>A": (0.0, False),
          "B>>A": (0.0, True)}  # fmt: skip
ORDERS: tuple[Order, Order] = ("ba", "ab")  # of the two games, for (model, baseline)
NO_BASELINE = "the judgments do not name the baseline; give it with --baseline, such as --baseline gpt-4-0314"


def read(files: Sequence[Path], names: Names) -> Found:
    found = Found()
    for path in files:
        for place, row in rows_of(path):
            if "games" in row:
                found.verdicts += _verdicts(row, place, names)
            elif "choices" in row or "messages" in row:
                found.answers += _answers(row, place)
            elif "prompt" in row or "turns" in row:
                found.item(_item(row, place))
            else:
                raise UserError(f"{place}: is no row of Arena-Hard: it has {', '.join(row)}")
    return found


def _id(row: Row, place: str) -> str:
    return text(row, "uid" if "uid" in row else "question_id", place)


def _item(row: Row, place: str) -> Item:
    turns = [content_of(t.get("content", "")) for t in row.get("turns", [])]
    messages = [{"role": "user", "content": turn} for turn in turns]
    prompt = row["prompt"] if "prompt" in row else turns[0] if len(turns) == 1 else messages
    finer = "subcategory" if row.get("subcategory") else "category"
    columns = rest(row, "uid", "question_id", "prompt", "turns", finer)
    return Item(id=_id(row, place), prompt=prompt, category=str(row.get(finer) or ""), columns=columns)


def _answers(row: Row, place: str) -> Iterator[Answer]:
    columns = rest(row, "uid", "question_id", "model_id", "model", "choices", "messages")
    if "messages" in row:
        said = [_said(m.get("content")) for m in row["messages"] if m.get("role") == "assistant"]
        length = number((row.get("metadata") or {}).get("token_len"))
        yield _answer(_id(row, place), text(row, "model", place), said, 0, length, columns)
        return
    for choice in row["choices"]:
        said = [_said(turn.get("content")) for turn in choice.get("turns", [])]
        lengths = [number(turn.get("token_len")) for turn in choice.get("turns", [])]
        length = sum(n or 0 for n in lengths) if lengths and None not in lengths else None
        yield _answer(_id(row, place), text(row, "model_id", place), said, int(choice.get("index", 0)), length, columns)


def _answer(item: str, model: str, said: list[str], sample: int, length: float | None, columns: Row) -> Answer:
    return Answer(
        item=item, model=model, text="\n\n".join(said), sample=sample,
        num_tokens=None if length is None else int(length), columns=columns,
    )  # fmt: skip


def _said(content: Any) -> str:
    if isinstance(content, dict):
        return str(content.get("answer", ""))
    return "" if content is None else content_of(content)


def _raw(game: Row) -> str:
    judgment = game.get("judgment")
    return _said(judgment) if isinstance(judgment, dict) and "answer" in judgment else raw_of(judgment)


def _verdicts(row: Row, place: str, names: Names) -> Iterator[Verdict]:
    games = need(row, "games", place)
    model, judge, item = text(row, "model", place), text(row, "judge", place), _id(row, place)
    if len(games) == 1 and not isinstance(games[0].get("score"), str):
        score = number(games[0].get("score"))
        yield Verdict(
            item=item, models=(model,), judge=judge, score=score, raw=_raw(games[0]),
            why="no rating could be read (score null)" if score is None else "",
        )  # fmt: skip
        return
    baseline = str(row.get("baseline") or names.baseline)
    if not baseline:
        raise UserError(f"{place}: {NO_BASELINE}")
    for order, game in zip(ORDERS, games, strict=False):
        label = game.get("score")
        if label is not None and label not in LABELS:
            raise UserError(f"{place}: score: found {label!r:.40}; expected one of {', '.join(LABELS)} or null")
        score, strong = LABELS[label] if label is not None else (None, False)
        if score is not None and order == "ba":  # A is the baseline
            score = 1 - score
        yield Verdict(
            item=item, models=(model, baseline), judge=judge, order=order, score=score, strong=strong,
            why="no verdict label could be read (score null)" if score is None else "",
            raw=_raw(game),
        )  # fmt: skip


# ---- writing --------------------------------------------------------------------------------------------------------


def write(found: Evaluation, folder: Path) -> Counter[str]:
    """As v2. The baseline of a pair is its second model."""
    losses: Counter[str] = Counter()
    _save(folder / "question.jsonl", [_asked(item) for item in found.items])
    losses[MESSAGES] += sum(isinstance(i.prompt, list) for i in found.items)
    losses["references of items"] += sum(i.reference is not None for i in found.items)
    losses["samples after the first"] += sum(a.sample > 0 for a in found.answers)
    for model in found.models:
        rows = [_answered(a) for a in found.answers if a.model == model and a.sample == 0]
        if rows:
            _save(folder / "model_answer" / f"{safe_name(model)}.jsonl", rows)
    groups: dict[tuple[str, ...], dict[str, list[Verdict]]] = {}
    for verdict in found.verdicts:
        groups.setdefault((verdict.judge, *verdict.models), {}).setdefault(verdict.item, []).append(verdict)
    for (judge, *models), items in groups.items():
        name = " against ".join(models)
        rows = [_judged(judge, models, item, said, losses) for item, said in items.items()]
        _save(folder / "model_judgment" / safe_name(judge) / f"{safe_name(name)}.jsonl", rows)
    losses["scores"] += len(found.scores)
    return losses


def _save(path: Path, rows: Sequence[Row]) -> None:
    inner_folder(path.parent)
    replace_file(path, as_lines(rows))


def _asked(item: Item) -> Row:
    finer = "subcategory" if "category" in item.columns else "category"
    return {**item.columns, finer: item.category, "uid": item.id, "prompt": as_text(item.prompt)}


def _answered(answer: Answer) -> Row:
    metadata = answer.columns.get("metadata") or {}
    if answer.num_tokens is not None:
        metadata = {**metadata, "token_len": answer.num_tokens}
    messages = [{"role": "assistant", "content": {"answer": answer.text}}]
    row = {**answer.columns, "uid": answer.item, "model": answer.model, "messages": messages}
    return {**row, "metadata": metadata} if metadata else row


def _judged(judge: str, models: Sequence[str], item: str, said: Sequence[Verdict], losses: Counter[str]) -> Row:
    row: Row = {"uid": item, "judge": judge, "model": models[0]}
    first = [v for v in said if v.repeat == 0]
    losses["verdicts on a question asked again"] += len(said) - len(first)
    if len(models) == 1:
        return {**row, "games": [{"score": v.score, "judgment": {"answer": v.raw}} for v in first]}
    by_order = {v.order: v for v in first}
    games = [_game(by_order.get(order), order, losses) for order in ORDERS]
    return {**row, "baseline": models[1], "games": games}


def _game(verdict: Verdict | None, order: Order, losses: Counter[str]) -> Row:
    if verdict is None or verdict.score is None:
        losses["games that were never played are written as verdicts without a score"] += verdict is None
        return {"score": None, "judgment": {"answer": "" if verdict is None else verdict.raw}}
    losses["verdicts with a probability are written as a label"] += verdict.score not in (0.0, 0.5, 1.0)
    score = 1 - verdict.score if order == "ba" else verdict.score
    label = "A=B" if score == 0.5 else f"A{'>>' if verdict.strong else '>'}B" if score > 0.5 else (
        f"B{'>>' if verdict.strong else '>'}A"
    )  # fmt: skip
    return {"score": label, "judgment": {"answer": verdict.raw}}


FORMAT = Format(
    name="arena_hard",
    about="question.jsonl, model_answer/*.jsonl and model_judgment/*/*.jsonl of Arena-Hard v0.1 or v2",
    read=read,
    write=write,
)

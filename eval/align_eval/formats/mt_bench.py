"""MT-Bench as FastChat writes it (`fastchat/llm_judge`): JSON lines of four kinds, told apart by their keys.

    question.jsonl        question_id, category, turns [text, text], reference [text, ...] or absent
    model_answer/M.jsonl  question_id, answer_id, model_id, choices [{index, turns [text, text]}], tstamp
    *_single.jsonl        question_id, model, judge [name, prompt], user_prompt, judgment, score, turn, tstamp
    *_pair.jsonl          question_id, model_1, model_2, g1_winner, g2_winner, judge [name, prompt], g1_user_prompt,
                          g1_judgment, g2_user_prompt, g2_judgment, turn, tstamp

A question with both turns is one item: its two turns are no independent evidence, and its mean over them is the
published one. The verdict on turn 2 has `repeat` 1 and the column `turn`. A score of -1 is FastChat's for a verdict
that could not be read, a winner `error` likewise; both are missing here. In game 1 model_1 was shown first.
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
from align_eval.formats.base import Format, Found, Names, Row, as_lines, need, number, raw_of, rest, rows_of, text
from align_eval.items import as_text
from align_eval.records import Answer, Item

PAIR = {"model_1": 1.0, "model_2": 0.0, "tie": 0.5}
ERROR = -1.0  # FastChat's score of a verdict without a rating
BETWEEN = "\n\n[turn {}]\n\n"  # of an answer's turns


def read(files: Sequence[Path], names: Names) -> Found:
    found = Found()
    for path in files:
        for place, row in rows_of(path):
            if "choices" in row:
                _answers(found, row, place)
            elif "g1_winner" in row:
                found.verdicts += _games(row, place)
            elif "score" in row or "judgment" in row:
                found.verdicts.append(_grade(row, place))
            elif "turns" in row:
                _question(found, row, place)
            else:
                raise UserError(f"{place}: is no row of MT-Bench: it has {', '.join(row)}")
    return found


def _question(found: Found, row: Row, place: str) -> None:
    reference = row.get("reference")
    prompt = [{"role": "user", "content": str(turn)} for turn in need(row, "turns", place)]
    columns = rest(row, "question_id", "category", "turns", "reference")
    found.item(
        Item(
            id=text(row, "question_id", place),
            prompt=prompt,
            reference=reference,
            category=str(row.get("category", "")),
            columns=columns,
        )
    )


def _answers(found: Found, row: Row, place: str) -> None:
    for choice in need(row, "choices", place):
        turns = [str(turn) for turn in choice.get("turns", [])]
        said = turns[0] if turns else ""
        for number_of, turn in enumerate(turns[1:], start=2):
            said += BETWEEN.format(number_of) + turn
        found.answers.append(
            Answer(
                item=text(row, "question_id", place),
                model=text(row, "model_id", place),
                text=said,
                sample=int(choice.get("index", 0)),
                columns={**rest(row, "question_id", "model_id", "choices"), "turns": turns},
            )
        )


def _grade(row: Row, place: str) -> Verdict:
    score = number(row.get("score"))
    missing = score is None or score == ERROR
    return Verdict(
        item=text(row, "question_id", place),
        models=(text(row, "model", place),),
        judge=_judge(row, place),
        repeat=_turn(row) - 1,
        score=None if missing else score,
        why=f"no rating could be read (score {row.get('score')})" if missing else "",
        raw=raw_of(row.get("judgment")),
        columns=rest(row, "question_id", "model", "judge", "score", "judgment", "user_prompt"),
    )


def _games(row: Row, place: str) -> Iterator[Verdict]:
    orders: tuple[Order, Order] = ("ab", "ba")
    for game, order in enumerate(orders, start=1):
        if (winner := row.get(f"g{game}_winner")) is None:
            continue
        yield Verdict(
            item=text(row, "question_id", place),
            models=(text(row, "model_1", place), text(row, "model_2", place)),
            judge=_judge(row, place),
            order=order,
            repeat=_turn(row) - 1,
            score=PAIR.get(winner),
            why="" if winner in PAIR else f"no winner could be read ({winner!r:.40})",
            raw=raw_of(row.get(f"g{game}_judgment")),
            columns={"turn": _turn(row)},
        )


def _judge(row: Row, place: str) -> str:
    judge = need(row, "judge", place)
    return str(judge[0]) if isinstance(judge, list) and judge else str(judge)


def _turn(row: Row) -> int:
    return int(number(row.get("turn")) or 1)


# ---- writing --------------------------------------------------------------------------------------------------------


def write(found: Evaluation, folder: Path) -> Counter[str]:
    losses: Counter[str] = Counter()
    _save(folder / "question.jsonl", [_asked(item, losses) for item in found.items])
    for model in found.models:
        rows = [_answered(a) for a in found.answers if a.model == model]
        if rows:
            _save(folder / "model_answer" / f"{safe_name(model)}.jsonl", rows)
    for judge in dict.fromkeys(v.judge for v in found.verdicts):
        said = [v for v in found.verdicts if v.judge == judge]
        grades, games = [v for v in said if len(v.models) == 1], [v for v in said if len(v.models) == 2]
        if grades:
            _save(folder / "model_judgment" / f"{safe_name(judge)}_single.jsonl", [_graded(v) for v in grades])
        if games:
            rows = list(_paired(games, losses))
            _save(folder / "model_judgment" / f"{safe_name(judge)}_pair.jsonl", rows)
    losses["scores are not written: the format has no place for them"] += len(found.scores)
    return losses


def _save(path: Path, rows: Sequence[Row]) -> None:
    inner_folder(path.parent)
    replace_file(path, as_lines(rows))


def _asked(item: Item, losses: Counter[str]) -> Row:
    prompt = item.prompt
    asked = [m for m in prompt if m.get("role") == "user"] if isinstance(prompt, list) else []
    if isinstance(prompt, list) and len(asked) < len(prompt):
        losses["messages of prompts that are not the user's are not written"] += len(prompt) - len(asked)
    turns = [str(m.get("content", "")) for m in asked] if isinstance(prompt, list) else [as_text(prompt)]
    row: Row = {**item.columns, "question_id": item.id, "category": item.category, "turns": turns}
    return row if item.reference is None else {**row, "reference": item.reference}


def _answered(answer: Answer) -> Row:
    turns = answer.columns.get("turns") or [answer.text]
    columns = {k: v for k, v in answer.columns.items() if k != "turns"}
    choices = [{"index": answer.sample, "turns": turns}]
    return {**columns, "question_id": answer.item, "model_id": answer.model, "choices": choices}


def _graded(verdict: Verdict) -> Row:
    score: Any = ERROR if verdict.score is None else verdict.score
    return {
        **verdict.columns, "question_id": verdict.item, "model": verdict.models[0], "judge": [verdict.judge, ""],
        "judgment": verdict.raw, "score": score, "turn": verdict.repeat + 1,
    }  # fmt: skip


def _paired(verdicts: Sequence[Verdict], losses: Counter[str]) -> Iterator[Row]:
    games: dict[tuple[Any, ...], dict[str, Verdict]] = {}
    for verdict in verdicts:
        games.setdefault((verdict.item, verdict.models, verdict.repeat), {})[verdict.order] = verdict
    for (item, models, repeat), orders in games.items():
        row: Row = {"question_id": item, "model_1": models[0], "model_2": models[1], "turn": repeat + 1}
        for game, order in ((1, "ab"), (2, "ba")):
            verdict = orders.get(order)
            row["judge"] = [next(iter(orders.values())).judge, ""]
            row[f"g{game}_winner"] = None if verdict is None else _winner(verdict, losses)
            row[f"g{game}_judgment"] = "" if verdict is None else verdict.raw
        yield row


def _winner(verdict: Verdict, losses: Counter[str]) -> str:
    if verdict.score is None:
        return "error"
    if verdict.score not in (0.0, 0.5, 1.0):
        losses["verdicts with a probability are written as a winner"] += 1
    if verdict.strong:
        losses["`much better` is written as better"] += 1
    return "tie" if verdict.score == 0.5 else "model_1" if verdict.score > 0.5 else "model_2"


FORMAT = Format(
    name="mt_bench",
    about="question.jsonl, model_answer/*.jsonl, model_judgment/*_single.jsonl and *_pair.jsonl of FastChat",
    read=read,
    write=write,
)

"""inspect_ai: a log as one JSON file (`inspect log dump`, `inspect eval --log-format json`), for a task and a model.

    version, status (started, success, error, cancelled), eval {task, model, dataset, ...}, plan, results, stats, error
    samples [{id, epoch, input: text or messages, choices, target: text or texts, messages, metadata, error,
              output {model, choices [{message {content}, stop_reason}], usage {output_tokens}, completion},
              scores {scorer: {value, answer, explanation, metadata}}, attachments {hash: text}}]

A value C is 1, P 1/2, I and N (no answer) 0, as inspect counts them; numbers and true or false stay; a value with keys
is one metric for each. Epochs are samples. Item ids are TASK/id, metrics TASK:SCORER. What inspect has no place for
goes out under metadata and comes back from there: why a score is missing (`missing`), our words of why an answer ended.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from align.errors import UserError
from align.system.files import inner_folder, write_json
from align.system.lines import safe_name
from align_eval.analysis.evaluation import Evaluation
from align_eval.analysis.scores import named
from align_eval.formats.base import Format, Found, Names, Row, need, number, parsed, plain, rest, text_of
from align_eval.items import content_of
from align_eval.records import Answer, Item, Score

LETTERS = {"C": 1.0, "P": 0.5, "I": 0.0, "N": 0.0}
STOPS = {"eos": "stop", "stop_string": "stop", "length": "max_tokens"}
THEIRS = ("stop", "max_tokens", "model_length", "tool_calls", "content_filter", "unknown")
MISSING = "missing"
ATTACHED = "attachment://"
VERSION = 2  # of the log
CREATED = "2000-01-01T00:00:00+00:00"  # of logs that are written here: one is needed, and it is no date of a run
KEPT = ("id", "epoch", "input", "target", "choices", "messages", "output", "scores", "attachments", "metadata", "error")


def read(files: Sequence[Path], names: Names) -> Found:
    found = Found()
    for path in files:
        if path.suffix == ".eval":
            how = f"inspect log convert --to json --output-dir FOLDER {path}"
            raise UserError(f"{path}: is a packed log; JSON is made of it by: {how}")
        log = parsed(text_of(path), str(path))
        if not isinstance(log, dict) or not isinstance(log.get("eval"), dict):
            raise UserError(f"{path}: is no log of inspect_ai: expected an object with eval and samples")
        about = log["eval"]
        whose = (str(need(about, "task", f"{path}: eval")), names.model or str(need(about, "model", f"{path}: eval")))
        if log.get("status") != "success":
            found.losses[f"{path}: the run ended with status {log.get('status')}: what it has is not all"] += 1
        samples = log.get("samples")
        if not samples:
            raise UserError(f"{path}: has no samples; a log of headers cannot be read")
        for number_of, sample in enumerate(samples, start=1):
            _take(found, sample, f"{path}: sample {number_of}", whose)
        found.losses["events, plans and usage of logs"] += 1
    return found


def _take(found: Found, sample: Row, place: str, whose: tuple[str, str]) -> None:
    task, model = whose
    attached = sample.get("attachments") or {}
    item = f"{task}/{need(sample, 'id', place)}"
    about = sample.get("metadata") or {}
    columns = {"task": task, **rest(about, MISSING)}
    if sample.get("choices"):
        columns["choices"] = sample["choices"]
    found.item(
        Item(id=item, prompt=_prompt(need(sample, "input", place), attached), reference=sample.get("target"),
             category=task, columns=columns)
    )  # fmt: skip
    epoch = int(sample.get("epoch") or 1) - 1
    error = sample.get("error")
    if error:
        found.losses["samples that ended in an error: they have no answer and no score"] += 1
    found.answers += _answers(item, model, sample, epoch)
    for scorer, score in (sample.get("scores") or {}).items():
        found.scores += _scores(item, model, f"{task}:{scorer}", epoch, score)
    for scorer, why in (about.get(MISSING) or {}).items():
        metric = f"{task}:{scorer}"
        found.scores.append(Score(item=item, model=model, metric=metric, score=None, sample=epoch, why=str(why)))
    if error and not sample.get("scores"):
        why = str(error.get("message", error) if isinstance(error, dict) else error)
        found.scores.append(Score(item=item, model=model, metric=f"{task}:error", score=None, sample=epoch, why=why))


def _prompt(given: Any, attached: Row) -> Any:
    if isinstance(given, list):
        return [{"role": str(m.get("role", "user")), "content": _whole(content_of(m.get("content", "")), attached)}
                for m in given]  # fmt: skip
    return _whole(str(given), attached)


def _whole(said: str, attached: Row) -> str:
    """Long texts stand once in the log, under their hash."""
    return str(attached.get(said.removeprefix(ATTACHED), said)) if said.startswith(ATTACHED) else said


def _answers(item: str, model: str, sample: Row, epoch: int) -> Iterator[Answer]:
    output = sample.get("output") or {}
    choices = output.get("choices") or []
    if not choices:
        return
    said = _whole(content_of((choices[0].get("message") or {}).get("content", "")), sample.get("attachments") or {})
    tokens = number((output.get("usage") or {}).get("output_tokens"))
    yield Answer(
        item=item, model=model, text=said, sample=epoch,
        stop=str((output.get("metadata") or {}).get("stop") or choices[0].get("stop_reason") or ""),
        num_tokens=None if tokens is None else int(tokens),
    )  # fmt: skip


def _scores(item: str, model: str, metric: str, epoch: int, score: Any) -> Iterator[Score]:
    value = score.get("value") if isinstance(score, dict) else score
    columns = rest(score, "value", "history") if isinstance(score, dict) else {}
    if "answer" in columns:
        columns["extracted"] = columns.pop("answer")
    values = {f"{metric}/{key}": v for key, v in value.items()} if isinstance(value, dict) else {metric: value}
    for name, one in values.items():
        found = LETTERS.get(one, number(one)) if isinstance(one, str) else number(one)
        yield Score(
            item=item, model=model, metric=name, score=found, sample=epoch, columns=columns,
            why="" if found is not None else f"the value is {one!r:.60}",
        )  # fmt: skip


# ---- writing --------------------------------------------------------------------------------------------------------


def write(found: Evaluation, folder: Path) -> Counter[str]:
    """A log for each task and model."""
    inner_folder(folder)
    losses: Counter[str] = Counter()
    items = {item.id: item for item in found.items}
    scores: dict[tuple[str, str], dict[tuple[str, int], dict[str, Score]]] = {}
    for score in found.scores:
        task, metric = named(score)
        sample = scores.setdefault((task, score.model), {}).setdefault((score.item, score.sample), {})
        sample[metric] = score
    said = {(a.item, a.model, a.sample): a for a in found.answers}
    for (task, model), samples in scores.items():
        rows = [
            _sample(items.get(item, Item(id=item, prompt="")), task, said.get((item, model, epoch)), (epoch, values))
            for (item, epoch), values in samples.items()
        ]
        names = list(dict.fromkeys(row["id"] for row in rows))
        about = {"task": task, "model": model, "created": CREATED, "config": {"epochs": max(e for _, e in samples) + 1},
                 "dataset": {"name": task, "samples": len(names), "sample_ids": names}}  # fmt: skip
        log = {"version": VERSION, "status": "success", "eval": about, "samples": rows}
        write_json(folder / f"{safe_name(f'{task}-{model}')}.json", log)
    scored = {(s.item, s.model, s.sample) for s in found.scores}
    losses["answers without a score"] += sum(key not in scored for key in said)
    losses["verdicts"] += len(found.verdicts)
    return losses


def _score(score: Score) -> Row:
    columns = dict(score.columns)
    answer = columns.pop("extracted", None)
    row = {"value": score.score, "answer": answer, **columns}
    return {**row, "explanation": row.get("explanation") or score.why or None}


def _sample(item: Item, task: str, answer: Answer | None, what: tuple[int, dict[str, Score]]) -> Row:
    epoch, scores = what
    columns = {k: v for k, v in item.columns.items() if k not in ("task", "choices")}
    if missing := {metric: score.why for metric, score in scores.items() if score.score is None}:
        columns[MISSING] = missing
    values = {metric: _score(score) for metric, score in scores.items() if score.score is not None}
    row: Row = {
        "id": item.id.removeprefix(f"{task}/"), "epoch": epoch + 1, "input": item.prompt,
        "target": "" if item.reference is None else plain(item.reference), "metadata": columns, "scores": values,
    }  # fmt: skip
    if item.columns.get("choices"):
        row["choices"] = item.columns["choices"]
    if answer is not None:
        stop = answer.stop if answer.stop in THEIRS else STOPS.get(answer.stop, "unknown")
        choice = {"message": {"role": "assistant", "content": answer.text}, "stop_reason": stop}
        usage = {} if answer.num_tokens is None else {"usage": {"output_tokens": answer.num_tokens}}
        own = {"metadata": {"stop": answer.stop}} if answer.stop != stop else {}
        row["output"] = {"model": answer.model, "choices": [choice], **usage, **own}
    return row


FORMAT = Format(
    name="inspect_ai", about="logs of inspect_ai as JSON, a file for each task and model", read=read, write=write
)

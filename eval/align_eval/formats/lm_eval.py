"""lm-evaluation-harness: the samples that it writes with --log_samples, as `samples_TASK_TIME.jsonl`, a row for each
document and filter.

    doc_id, doc, target, filter, metrics [name, ...], doc_hash, prompt_hash, target_hash, and a value for each metric
    arguments       [[prompt, ...], ...] or {gen_args_0: {arg_0: prompt, ...}, ...}, one for each request
    resps           [[text, ...]], or [[[log-likelihood, is greedy]], ...] for choices, numbers also as texts
    filtered_resps  what the filter made of them

The task is read from the file's name. The model is not in the file: `--model`, or what results_TIME.json beside it
says, or the name of its folder, which the harness calls ORG__NAME. Item ids are TASK/doc_id, metrics TASK:METRIC,
behind it the filter where it is not `none`. A perplexity's value is [log-likelihood, words or bytes] of a document: the
metric is then the log-likelihood per word or byte, over all documents as the harness adds them up.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from align.errors import UserError
from align.system.files import inner_folder, replace_file
from align.system.lines import safe_name
from align_eval.analysis.evaluation import Evaluation
from align_eval.analysis.scores import named
from align_eval.formats.base import (
    Format,
    Found,
    Names,
    Row,
    as_lines,
    key_of,
    need,
    number,
    parsed,
    plain,
    rows_of,
    text_of,
)
from align_eval.items import About, as_text, by_item
from align_eval.records import Answer, Item, Score

FILE = re.compile(r"samples_(?P<task>.+?)(_\d{4}-\d\d-\d\dT[\d\-:.]+)?\.jsonl(\.gz)?$")
TIME = "2000-01-01T00-00-00.000000"  # of files that are written here: the name needs one, and it is no date of a run
PLAIN = "none"  # the filter that changes nothing
PER_UNIT = {
    "word_perplexity": "logp_per_word", "byte_perplexity": "logp_per_byte", "bits_per_byte": "logp_per_byte",
}  # fmt: skip
PERPLEXITIES = "perplexities are log-likelihoods per word or byte here: exp(-x), or -x / ln 2 for bits"
SUMMARY = re.compile(r"results_.+\.json")  # what the harness writes beside samples
OTHER_FILTERS = "values of further filters are kept as metrics of their own"


def read(files: Sequence[Path], names: Names) -> Found:
    found = Found()
    samples = [path for path in files if not SUMMARY.fullmatch(path.name)]
    if not samples:
        raise UserError(f"{files[0]}: has means alone; lm_eval writes samples_TASK_TIME.jsonl with --log_samples")
    for path in samples:
        match = FILE.fullmatch(path.name)
        if match is None:
            raise UserError(f"{path}: expected a name such as samples_gsm8k_2026-01-31T10-00-00.jsonl")
        model = names.model or _model_of(path)
        said: set[str] = set()
        for place, row in rows_of(path):
            _take(found, row, place, (match["task"], model), said)
    return found


def _model_of(path: Path) -> str:
    """As the harness was told its name, or as it made a folder of that."""
    for summary in sorted(path.parent.glob("results_*.json")):
        said = parsed(text_of(summary), str(summary))
        if isinstance(said, dict) and said.get("model_name"):
            return str(said["model_name"])
    return path.resolve().parent.name.replace("__", "/")


def _take(found: Found, row: Row, place: str, whose: tuple[str, str], said: set[str]) -> None:
    task, model = whose
    item = f"{task}/{need(row, 'doc_id', place)}"
    if item not in said:
        said.add(item)
        asked = _prompts(need(row, "arguments", place))
        doc = row.get("doc")
        columns: Row = {"task": task, "doc": plain(doc)} if doc is not None else {"task": task}
        found.item(Item(id=item, prompt=asked[0][0] if asked else "", reference=plain(row.get("target")),
                        category=task, columns=columns))  # fmt: skip
        found.answers += [] if _rolling(row) else _answers(item, model, asked, row)
    scores = [_score(item, f"{task}:{metric}", model, row, found) for metric in need(row, "metrics", place)]
    found.scores += {score.metric: score for score in scores}.values()  # two perplexities are one log-likelihood


def _rolling(row: Row) -> bool:
    """A whole document was read, and nothing written."""
    return all(_pair(row.get(metric)) for metric in row["metrics"])


def _pair(value: Any) -> tuple[float, float] | None:
    """A log-likelihood and its number of words or bytes."""
    if not isinstance(value, list | tuple) or len(value) != 2:
        return None
    logp, units = map(number, value)
    return None if logp is None or not units else (logp, units)


def _prompts(arguments: Any) -> list[tuple[str, str]]:
    """Of each request: what was given, and what was to follow where that is known."""
    requests = [list(r.values()) for r in arguments.values()] if isinstance(arguments, dict) else arguments
    pairs = [(str(r[0]), str(r[1]) if len(r) > 1 and isinstance(r[1], str) else "") for r in requests if r]
    return pairs


def _answers(item: str, model: str, asked: Sequence[tuple[str, str]], row: Row) -> Iterator[Answer]:
    responses = row.get("resps") or []
    flat = [r for some in responses for r in (some if _nested(some) else [some])]
    if flat and all(isinstance(r, list) for r in flat):  # (log-likelihood, is greedy) of each choice
        logps = [_logp(r[0]) for r in flat]
        known = [p for p in logps if p is not None]
        best = logps.index(max(known)) if known else 0
        text = asked[best][1].strip() if best < len(asked) else ""
        choices = [continuation for _, continuation in asked]
        yield Answer(item=item, model=model, text=text, columns={"logps": logps, "choices": choices})
        return
    for sample, response in enumerate(flat):
        yield Answer(item=item, model=model, text=str(response), sample=sample)


def _logp(value: Any) -> float | None:
    """Some versions write numbers as texts."""
    try:
        return number(float(value))
    except (TypeError, ValueError):
        return None


def _nested(some: Any) -> bool:
    """A request's responses in a list: texts, or pairs of a log-likelihood and whether it is greedy."""
    return isinstance(some, list) and bool(some) and (isinstance(some[0], str | list))


def _score(item: str, metric: str, model: str, row: Row, found: Found) -> Score:
    task, _, name = metric.partition(":")
    value = row.get(name)
    if name in PER_UNIT and (pair := _pair(value)):
        found.losses[PERPLEXITIES] += 1
        parts: Row = {"followed": pair[0], "of": pair[1], "unit": "nats"}
        return Score(item=item, model=model, metric=f"{task}:{PER_UNIT[name]}", score=pair[0] / pair[1], columns=parts)
    score = number(value)
    used = str(row.get("filter") or PLAIN)
    if score is None and value is not None and not isinstance(value, float):
        found.losses["values of metrics that are no numbers, and are missing here"] += 1
    if used != PLAIN:
        found.losses[OTHER_FILTERS] += 1
    extracted = row.get("filtered_resps")
    columns = {"filtered": plain(extracted)} if isinstance(extracted, list) and extracted and isinstance(
        extracted[0], str) else {}  # fmt: skip
    return Score(
        item=item, model=model, metric=metric if used == PLAIN else f"{metric} ({used})", score=score,
        why="" if score is not None else f"the value is {value!r:.60}", columns=columns,
    )  # fmt: skip


# ---- writing --------------------------------------------------------------------------------------------------------


def write(found: Evaluation, folder: Path) -> Counter[str]:
    losses: Counter[str] = Counter()
    files: dict[Path, list[Row]] = {}
    for about in by_item(found).values():
        for model in dict.fromkeys(s.model for s in about.scores):
            for task, filtered, scores in _tasks([s for s in about.scores if s.model == model]):
                place = folder / model.replace("/", "__")
                path = place.with_name(safe_name(place.name)) / f"samples_{safe_name(task or 'task')}_{TIME}.jsonl"
                files.setdefault(path, []).append(_row(about, model, task, (filtered, scores)))
    for path, rows in files.items():
        inner_folder(path.parent)
        replace_file(path, as_lines(rows))
    scored = {(s.item, s.model) for s in found.scores}
    losses["answers without a score"] += sum((a.item, a.model) not in scored for a in found.answers)
    losses["verdicts"] += len(found.verdicts)
    losses["scores of samples after the first"] += sum(s.sample > 0 for s in found.scores)
    losses["whether a choice is what the model would write: it is written as false"] += sum(
        "logps" in a.columns for a in found.answers
    )
    losses["reasons of missing scores: they are null"] += sum(s.score is None for s in found.scores)
    return losses


def _tasks(scores: Sequence[Score]) -> Iterator[tuple[str, str, list[Score]]]:
    """Of one item and model: by task and filter."""
    groups: dict[tuple[str, str], list[Score]] = {}
    for score in (s for s in scores if s.sample == 0):
        task, metric = named(score)
        filtered = re.fullmatch(r".+ \((.+)\)", metric)
        groups.setdefault((task, filtered[1] if filtered else PLAIN), []).append(score)
    for (task, filtered), some in groups.items():
        yield task, filtered, some


def _row(about: About, model: str, task: str, what: tuple[str, list[Score]]) -> Row:
    used, scores = what
    item = about.item
    values = {named(s)[1].removesuffix(f" ({used})"): s.score for s in scores}
    answers = sorted((a for a in about.answers if a.model == model), key=lambda a: a.sample)
    name = item.id.removeprefix(f"{task}/")
    prompt, doc = as_text(item.prompt), item.columns.get("doc", {})
    choices, logps = (answers[0].columns.get(key) if answers else None for key in ("choices", "logps"))
    if isinstance(choices, list) and isinstance(logps, list):
        arguments, resps = [[prompt, c] for c in choices], [[[p, False]] for p in logps]
    else:
        arguments, resps = [[prompt]], [[a.text for a in answers]]
    flat = [response for some in resps for response in some]
    filtered = next((s.columns["filtered"] for s in scores if "filtered" in s.columns), flat)
    return {
        "doc_id": int(name) if name.isdecimal() else name, "doc": doc, "target": item.reference,
        "arguments": arguments, "resps": resps, "filtered_resps": filtered, "filter": used, "metrics": list(values),
        "doc_hash": key_of(str(doc)), "prompt_hash": key_of(prompt), "target_hash": key_of(str(item.reference)),
        **values,
    }  # fmt: skip


FORMAT = Format(
    name="lm_eval",
    about="samples_TASK_TIME.jsonl of lm-evaluation-harness (--log_samples)",
    read=read,
    write=write,
)

"""One answer to one item, and what it is worth by each metric of its task.

An answer in which no answer is found counts as wrong in the headline, is marked (`columns.unparsed`) and counted by a
metric of its own. What a scorer cannot judge at all has no score, and a reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from align_eval.records import Answer, Item, Score
from align_eval.scorers.choices import of_choice, of_pair, of_truth
from align_eval.scorers.code import of_code
from align_eval.scorers.extract import extract
from align_eval.scorers.ifeval.check import of_instructions
from align_eval.scorers.texts import same_mathematics, same_text
from align_eval.tasks.task import Task

Found = tuple[str, float | None, str, dict[str, Any]]  # metric, score, why, columns
SAME: dict[str, Callable[[str, str], bool]] = {"math": same_mathematics, "text": same_text}
OTHERS: dict[str, Callable[[Task, Item, Answer], Iterator[Found]]] = {
    "choice": of_choice, "truth": of_truth, "pair": of_pair, "ifeval": of_instructions, "code": of_code,
}  # fmt: skip
SHOWN = 200  # characters of an extracted answer that a score keeps


def judge(task: Task, item: Item, answer: Answer) -> list[Score]:
    """A score for each metric. Metrics are `TASK:METRIC`, so that those of several tasks lie in one folder."""
    found = OTHERS[task.score.by](task, item, answer) if task.score.by in OTHERS else _compared(task, item, answer)
    return [_score(task, answer, one) for one in found]


def metric_of(task: Task, metric: str) -> str:
    return f"{task.name}:{metric}"


def no_answer(task: Task, missing: Answer, why: str, metrics: Sequence[str]) -> list[Score]:
    """Of an item that a model gave no answer to."""
    return [_score(task, missing, (metric, None, why, {})) for metric in metrics]


def _score(task: Task, answer: Answer, found: Found) -> Score:
    metric, value, why, columns = found
    name = metric_of(task, metric)
    return Score(item=answer.item, model=answer.model, sample=answer.sample, metric=name, score=value, why=why,
                 columns=columns)  # fmt: skip


def _compared(task: Task, item: Item, answer: Answer) -> Iterator[Found]:
    """`accuracy_NAME` for each extractor."""
    right = str(item.reference)
    for name, how in task.extract.items():
        metric = f"accuracy_{name}"
        said = extract(how, answer.text)
        if said is None:
            yield metric, 0.0, "", {"unparsed": f"{name}: {_wanted(how)}", "extracted": None}
        else:
            yield metric, float(SAME[task.score.by](said, right)), "", {"extracted": said[:SHOWN]}


def _wanted(how: Any) -> str:
    """What was looked for and is not there."""
    return {
        "after": f"nothing after {how.marker!r}", "boxed": "no \\boxed{...}", "letter": "no letter that was to choose",
        "final_answer": "no number and no marked answer", "pattern": f"nothing matches {how.pattern}",
    }.get(how.by, "empty")  # fmt: skip

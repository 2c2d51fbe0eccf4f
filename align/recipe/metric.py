"""Which metrics a recipe's evaluations can be compared by: what the method reports, or what completions earn."""

from __future__ import annotations

import traceback
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from align.batches import Group, Tokens
from align.data.reading.rows import MEMBERS
from align.errors import UserError, did_you_mean
from align.methods.base import Loss, Method, OnlineMethod
from align.methods.metrics import About, about, of_term
from align.needs import Needs, empty_batch
from align.recipe.text import Written
from align.rewards.verdicts import named

METRIC, BETTER = "training.metric_for_best_model", "training.greater_is_better"


def check_metric(written: Written, method: Method[Any], sections: Mapping[str, Any]) -> None:
    """What a method from outside reports is known when it has rows to try it on."""
    online = isinstance(method, OnlineMethod)
    if sections["training"] is None or (online and sections["reward"] is None):
        return
    metric: str = sections["training"].metric_for_best_model
    if online:
        names = [f"rewards/{name}" for name, _ in named(sections["reward"].functions)]
        known = ["reward", "completion_length", "truncated", *names]
        finding = no_such(metric, known, "where the policy writes there are")
    elif ":" in str(written.get("method.name")):
        return
    else:
        known = reported(method, method.name, _rows(method))
        finding = no_such(metric, known, f"{method.name} reports")
    if finding:
        written.wrong(METRIC, finding)


def direction(written: Written, metric: str, found: About) -> bool | None:
    """Whether the larger is the better; None, and a mistake, of a metric that is neither by itself."""
    if found.better:
        return found.better == "larger"
    written.wrong(BETTER, undecided(metric))
    return None


def undecided(metric: str) -> str:
    return f"missing; {metric} is not declared to be better when larger or when smaller: say true or false"


def declared(method: Method[Any], metric: str) -> About | None:
    """What a metric is. None of a method from outside, which is known when it has rows to try it on."""
    if isinstance(method, OnlineMethod) or metric == "loss":
        return about(metric)
    if type(method).__module__.startswith("align.methods."):
        return reported(method, method.name, _rows(method)).get(metric, About())
    return None


def no_such(metric: str, known: Iterable[str], who: str) -> str:
    """Why evaluations cannot be compared by this metric; empty where they can."""
    known = list(known)
    if metric in known:
        return ""
    return f"no such metric: {metric}; {who} {', '.join(known)}.{did_you_mean(metric, known)}"


def reported(method: Method[Any], spelt: str, rows: Sequence[Group]) -> dict[str, About]:
    """What a method, found under the name `spelt`, reports of such rows. UserError where its loss fails on them."""
    needs = method.needs()
    sample = needs.batch.arrange(rows)
    widths = [max(len(g.members[i].completion) for g in sample) for i in range(len(needs.members))]
    members = zip(needs.members, widths, strict=True)
    zeros = {(m, c): torch.zeros(len(sample), width) for m, width in members for c in needs.stored(m)}
    terms = _tried(method, spelt, empty_batch(needs, sample, zeros)).terms
    return {"loss": about("loss")} | {name: of_term(name, t.weight, t.about) for name, t in terms.items()}


def _tried(method: Any, spelt: str, batch: Any) -> Loss:
    """The loss of a method, which may be a user's own, on its first rows."""
    try:
        found: object = method.loss(method.prepare(batch))
    except Exception as error:
        if ":" not in spelt:
            raise
        last = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{last.filename}, line {last.lineno}"
        raise UserError(f"method {spelt}: {type(error).__name__} on the first rows: {error} ({where})") from error
    if not isinstance(found, Loss):
        raise UserError(f"method {spelt}: loss returned {type(found).__name__}, not align.methods.base.Loss")
    return found


def _rows(method: Method[Any]) -> list[Group]:
    """Rows as they might be: what is reported hangs on the kind of the rows, not on what they say."""
    needs: Needs = method.needs()
    token, kept = np.zeros(1, dtype=np.int32), np.ones(1, dtype=np.bool_)
    count = max(2, method.smallest_batch)
    return [
        Group(
            tuple(Tokens(token + i, token + n, kept) for n in range(MEMBERS[needs.batch.kind])),
            {column: float(i % 2) for column, _ in needs.rows.values()},
            i,
        )
        for i in range(count)
    ]

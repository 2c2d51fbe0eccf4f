"""What rewards that compare say of an experience, once all completions of its prompts are written.

A method's `resample` is asked before that, so it sees what the other rewards say.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from align.batches import BY_POLICY
from align.rewards.base import Sample
from align.rewards.columns import WRITTEN_BY
from align.rollout.writer import Prompt, Seconds, Trajectory, Writer


def compared(
    writer: Writer, written: Sequence[Trajectory], prompts: Mapping[int, Prompt],
    keep: Callable[[list[Trajectory]], Any], seconds: Seconds,
) -> list[Trajectory]:  # fmt: skip
    """The completions, on every rank, with the verdicts of functions that compare; `prompts` by number.

    Each rank asks for its share of the prompts. Prompts whose verdicts are there already are not asked for again; those
    that are new are handed to `keep`.
    """
    names = writer.reward_functions.comparing
    started, found = time.perf_counter(), list(written)
    rows: dict[int, list[int]] = {}
    for i, t in enumerate(written):
        rows.setdefault(t.number, []).append(i)
    wanted = [of for of in rows.values() if any(name not in written[i].rewards for i in of for name in names)]
    if not wanted:
        return found
    mine = wanted[writer.world.rank :: writer.world.size]
    groups = [_samples(writer, [written[i] for i in of], prompts) for of in mine]
    told = writer.everyones(lambda: list(zip(mine, writer.reward_functions.compare(groups), strict=True)))
    for of, verdicts in told:
        for i, judged in zip(of, verdicts, strict=True):
            rewards, failed = written[i].rewards | judged.rewards, written[i].failed | judged.failed
            found[i] = dataclasses.replace(written[i], rewards=rewards, failed=failed)
    keep([found[i] for of in wanted for i in of])
    seconds.reward += time.perf_counter() - started
    return found


def _samples(writer: Writer, of_prompt: Sequence[Trajectory], prompts: Mapping[int, Prompt]) -> list[Sample]:
    """Whole completions: one that another begins like lends it its first tokens. Who wrote them is told where it was
    not the policy alone."""
    tokens = {t.place: t.tokens for t in of_prompt}
    samples = [
        writer.sample(
            prompts[t.number], t.place, (tokens[t.source][: t.given] if t.auxiliary and t.given else []) + t.tokens
        )
        for t in of_prompt
    ]  # fmt: skip
    if all(t.writer == BY_POLICY for t in of_prompt):
        return samples
    told = zip(samples, of_prompt, strict=True)
    return [dataclasses.replace(s, columns={**s.columns, WRITTEN_BY: t.writer}) for s, t in told]

"""IFEval: which of a prompt's instructions an answer follows.

Strict takes the answer as it is. Loose also takes it without its first line, without its last line, without both, and
each of these without asterisks: an introduction, a farewell or emphasis is then no fault. An empty answer follows
nothing. By prompt: all instructions were followed. By instruction: how many of all.

Departures from the authors' program: sentences are cut, and languages told, by rules of our own (`counting`,
`language`), since theirs are two packages of trained models.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from align.errors import UserError, did_you_mean
from align_eval.records import Answer, Item
from align_eval.scorers.ifeval.kinds import KINDS
from align_eval.tasks.task import Task

HOWS = ("strict", "loose")


def follows(kind: str, arguments: Mapping[str, Any], text: str, prompt: str = "") -> bool:
    """Whether a text follows one instruction, strictly. UserError for a kind that is not known."""
    if kind not in KINDS:
        there = f"there are {', '.join(KINDS)}.{did_you_mean(kind, KINDS)}"
        raise UserError(f"ifeval: no such instruction: {kind}; {there}")
    given = dict(arguments) or ({"prompt_to_repeat": prompt} if kind == "combination:repeat_prompt" else {})
    return bool(text.strip()) and KINDS[kind](text, **given)


def variants(text: str) -> list[str]:
    """What loose looks at, the text itself first."""
    lines = text.split("\n")
    texts = [text, *("\n".join(some).strip() for some in (lines[1:], lines[:-1], lines[1:-1]))]
    return [*texts, *(one.replace("*", "") for one in texts)]


def followed(item: Item, text: str) -> dict[str, list[bool]]:
    """For each of strict and loose, which instructions."""
    kinds, arguments = item.columns["instruction_id_list"], item.columns["kwargs"]
    given = list(zip(kinds, arguments, strict=True))
    return {
        "strict": [follows(kind, known, text, str(item.prompt)) for kind, known in given],
        "loose": [any(follows(kind, known, t, str(item.prompt)) for t in variants(text)) for kind, known in given],
    }


def of_instructions(task: Task, item: Item, answer: Answer) -> Iterator[tuple[str, float | None, str, dict[str, Any]]]:
    """`prompt_strict`, `prompt_loose`: all of them; `instruction_strict`, `instruction_loose`: how many."""
    found = followed(item, answer.text)
    kinds = item.columns["instruction_id_list"]
    for how in HOWS:
        done = found[how]
        failed = [kind for kind, ok in zip(kinds, done, strict=True) if not ok]
        yield f"prompt_{how}", float(all(done)), "", {"failed": failed} if failed else {}
        counts = {"followed": sum(done), "of": len(done)}
        yield f"instructions_{how}", sum(done) / len(done), "", counts

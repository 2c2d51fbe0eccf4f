"""HumanEval and its like: a function is completed, and passes where its tests run to their end.

What was written is a whole function, which then stands behind whatever the prompt has before its own, or the rest of
the prompt's function. `passed` is of one answer; pass@k is made of several by the summary.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from align_eval.records import Answer, Item
from align_eval.scorers.extract import extract
from align_eval.scorers.sandbox import run
from align_eval.tasks.task import Extractor, Task

WHOLE = Extractor(by="code")


def program_of(prompt: str, code: str, entry_point: str) -> str:
    """The prompt's function, completed."""
    own = rf"^(?:async\s+)?def\s+{re.escape(entry_point)}\s*\("
    if not re.search(own, code, re.MULTILINE):
        return prompt + code
    found = re.search(own, prompt, re.MULTILINE)
    return (prompt[: found.start()] if found else prompt) + "\n" + code


def of_code(task: Task, item: Item, answer: Answer) -> Iterator[tuple[str, float | None, str, dict[str, Any]]]:
    """`passed`; why not, in the columns."""
    how = next(iter(task.extract.values()), WHOLE)
    code = extract(how, answer.text)
    if code is None:
        yield "passed", 0.0, "", {"unparsed": "nothing was written"}
        return
    known = item.columns
    program = program_of(known["prompt"], code, known["entry_point"])
    tests = f"{program}\n\n{known['test']}\n\ncheck({known['entry_point']})\n"
    ran = run(tests, task.score.timeout, task.score.memory)
    yield "passed", float(ran.passed), "", {"failed": ran.why} if ran.why else {}

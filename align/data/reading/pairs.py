"""Two answers to one prompt, and the prompt where no column has it: what both of them begin with."""

from __future__ import annotations

from align.data.reading.columns import ASKED, SPOKEN
from align.data.reading.messages import BadRow, Text, is_answer

SPLIT = "`chosen` and `rejected` have no prompt beside them: what both begin with is taken for it"


def without_prompt(chosen: Text, rejected: Text, columns: list[str]) -> tuple[Text, Text, Text] | None:
    """(prompt, chosen, rejected) of what both begin with; None where they are answers alone, to a prompt elsewhere.

    `columns` are the row's others. BadRow where nothing is shared.
    """
    if isinstance(chosen, str) and isinstance(rejected, str):
        elsewhere = [c for c in columns if c.lower() in ASKED | SPOKEN]
        return None if elsewhere else _of_texts(chosen, rejected)
    return None


def of_conversations(chosen: Text, rejected: Text) -> tuple[Text, Text, Text] | None:
    """The same of whole conversations, turn by turn; None where they are none."""
    if isinstance(chosen, str) or isinstance(rejected, str):
        return None
    if not (chosen and rejected) or is_answer(chosen[0]) or is_answer(rejected[0]):
        return None
    shared = 0
    while shared < min(len(chosen), len(rejected)) and chosen[shared] == rejected[shared]:
        shared += 1
    if shared == 0:
        raise BadRow("`chosen` and `rejected` are conversations that do not share their first message")
    return chosen[:shared], chosen[shared:], rejected[shared:]


def _of_texts(chosen: str, rejected: str) -> tuple[str, str, str]:
    """Divided where the texts first differ, and before the space that stands there, as trl does; where one is the
    beginning of the other, its last character is an answer still."""
    last = min(len(chosen), len(rejected)) - 1
    at = next((i for i in range(last + 1) if chosen[i] != rejected[i]), last)
    if at > 0 and chosen[at] != rejected[at] and chosen[at - 1] == " ":
        at -= 1
    if not chosen[: max(at, 0)].strip():
        raise BadRow("no `prompt`, and `chosen` and `rejected` do not begin alike; name it with data.columns.prompt")
    return chosen[:at], chosen[at:], rejected[at:]

"""What an OpenAI-compatible endpoint completes: one request, many side by side, and who it says has replied.

Judges and evaluations ask through this alone, each for its own prompts.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from align.errors import RunError, UserError
from align.judges.served.endpoint import Endpoint, Refused
from align.models.sources import folder_fingerprint

GIVE_UP = 3  # rounds of requests in a row that all fail
CHARACTERS = 3  # for each token of a prompt, where nobody can count: rather too many tokens than too few
AROUND = 8  # tokens around a message
Asked = TypeVar("Asked")
Told = TypeVar("Told")


@dataclass(frozen=True, kw_only=True)
class Completed:
    """One choice of an answer."""

    text: str | None  # None: the endpoint gives none, as behind a filter
    stop: str  # why it ended, in the endpoint's words: stop, length, content_filter
    prompt_tokens: int | None
    completion_tokens: int | None
    served: str  # the model that has replied, by its name and fingerprint, as far as they are told


def complete(endpoint: Endpoint, body: dict[str, Any]) -> Completed:
    """Of `messages` or of a `prompt`. Unanswered, Refused; UserError where nothing ever could come."""
    chat = "messages" in body
    found = post(endpoint, "/chat/completions" if chat else "/completions", body)
    try:
        choice, usage = found["choices"][0], found.get("usage") or {}
        text = choice["message"].get("content") if chat else choice["text"]
        prompt, completion = (_count(usage.get(f"{part}_tokens")) for part in ("prompt", "completion"))
        stop = str(choice.get("finish_reason") or "")
    except (KeyError, IndexError, TypeError, AttributeError):
        told = str(found.get("error") or found)[:200]
        raise Refused(f"{endpoint.url}: answers without a choice: {told}") from None
    return Completed(
        text=text if text is None else str(text), stop=stop, prompt_tokens=prompt, completion_tokens=completion,
        served=served_by(found),
    )  # fmt: skip


def served_by(found: dict[str, Any]) -> str:
    """Which model an answer says it is of."""
    return " ".join(str(found[key]) for key in ("model", "system_fingerprint") if found.get(key))


def post(endpoint: Endpoint, path: str, body: dict[str, Any]) -> dict[str, Any]:
    """UserError where the address or the model's name is wrong, which no further request mends."""
    try:
        return endpoint.post(path, body)
    except Refused as error:
        if "answers 404" in str(error):
            cure = f"is {body['model']!r} served there, and does the address end as it should (/v1)?"
            raise UserError(f"{error}; {cure}") from None
        raise


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def side_by_side(
    endpoint: Endpoint, concurrency: int, asks: Iterator[Asked], ask: Callable[[Asked], Told],
    failure: Callable[[Told], str],
) -> Iterator[tuple[Asked, Told]]:  # fmt: skip
    """Answers as they come, with what was asked, which is taken only when its turn comes. RunError where nothing comes
    back any more."""
    running: dict[Future[Told], Asked] = {}
    failures, pool = 0, ThreadPoolExecutor(concurrency)
    with endpoint.connected():
        try:
            while True:
                while len(running) < concurrency and (one := next(asks, None)) is not None:
                    running[pool.submit(ask, one)] = one
                if not running:
                    return
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    one, told = running.pop(future), future.result()
                    why = failure(told)
                    failures = failures + 1 if why else 0
                    yield one, told
                    if failures >= GIVE_UP * concurrency:
                        raise RunError(
                            f"{failures} requests in a row have failed, the last with: {why}. What came before is "
                            "kept; start the command again when the endpoint is well"
                        )
        finally:
            if running:
                endpoint.stop()
            pool.shutdown(cancel_futures=True)


def counted(prompt: str | Sequence[dict[str, Any]]) -> int:
    """Tokens of a prompt, estimated: nobody here knows the endpoint's tokenizer."""
    texts = [prompt] if isinstance(prompt, str) else [str(message["content"]) for message in prompt]
    return sum(len(text.encode(errors="replace")) // CHARACTERS + AROUND for text in texts)


def weights_told(endpoint: Endpoint, model: str) -> dict[str, str]:
    """What the endpoint's list of models says of the weights: where they lie, and for a server on this machine their
    sum. Empty where it says nothing. Unanswered where it is not there."""
    try:
        cards = endpoint.get("/models")["data"]
        root = next((str(card["root"]) for card in cards if card.get("id") == model), "")
    except (Refused, KeyError, TypeError, AttributeError):
        return {}
    if endpoint.local and root and Path(root).is_dir():
        with contextlib.suppress(UserError, OSError):
            return {"root": root, "weights": folder_fingerprint(root)}
    return {"root": root} if root else {}

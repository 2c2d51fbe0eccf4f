"""A model behind an OpenAI-compatible endpoint that judges."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from align.errors import RunError, UserError
from align.judges.endpoint import Endpoint, Refused, Stopping, Unanswered
from align.judges.prompts import Messages
from align.judges.replies import Ask, Reply
from align.models.sources import folder_fingerprint

CHARACTERS = 3  # for each token of a prompt, where nobody can count: rather too many tokens than too few
AROUND = 8  # tokens around a message
LOOK = 10.0  # seconds for what is only worth knowing
GIVE_UP = 3  # rounds of requests in a row that all fail


@dataclass(frozen=True, kw_only=True)
class EndpointSpeaker:
    """Asks several requests at a time."""

    endpoint: Endpoint
    model: str
    revision: str = ""  # of what is served, where you know it: part of the identity
    concurrency: int = 8
    extra: dict[str, Any] = field(default_factory=dict)  # further keys of every request

    exact = False

    def identity(self) -> dict[str, Any]:
        told = {"revision": self.revision, "extra": self.extra}
        return {"endpoint": self.endpoint.url, "model": self.model, **{k: v for k, v in told.items() if v}}

    def count(self, messages: Messages) -> int:
        return sum(len(m["content"].encode()) // CHARACTERS + AROUND for m in messages)

    def speak(self, asks: Iterator[Ask]) -> Iterator[tuple[Ask, Reply]]:
        """RunError where nothing comes back any more, UserError where nothing ever could."""
        with self.endpoint.connected():
            yield from self._spoken(asks)

    def _spoken(self, asks: Iterator[Ask]) -> Iterator[tuple[Ask, Reply]]:
        running: dict[Future[Reply], Ask] = {}
        failures, pool = 0, ThreadPoolExecutor(self.concurrency)
        try:
            while True:
                while len(running) < self.concurrency and (ask := next(asks, None)) is not None:
                    assert self.weights is not None  # looked up here, not in several threads at once
                    running[pool.submit(self.reply, ask)] = ask
                if not running:
                    return
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    ask, reply = running.pop(future), future.result()
                    failures = failures + 1 if reply.failure else 0
                    yield ask, reply
                    if failures >= GIVE_UP * self.concurrency:
                        raise RunError(
                            f"{failures} requests in a row have failed, the last with: {reply.failure}. What was "
                            "replied before is kept; start the command again when the endpoint is well"
                        )
        finally:
            if running:
                self.endpoint.stop()
            pool.shutdown(cancel_futures=True)

    def reply(self, ask: Ask) -> Reply:
        """To one prompt; with a failure where none is to be had."""
        try:
            found = self.endpoint.post("/chat/completions", self.body(ask))
            return self._read(found)
        except Refused as error:
            if "answers 404" in str(error):
                cure = f"is {self.model!r} served there, and does --base-url end as it should (/v1)?"
                raise UserError(f"{error}; {cure}") from None
            return Reply(failure=str(error))
        except Unanswered as error:
            return Reply(failure=str(error))
        except Stopping:
            return Reply(failure="was stopped")

    def body(self, ask: Ask) -> dict[str, Any]:
        drawn = ask.decoding
        asked = {"model": self.model, "messages": ask.messages, "max_tokens": drawn.max_tokens,
                 "temperature": drawn.temperature}  # fmt: skip
        if drawn.temperature > 0:
            asked |= {"top_p": drawn.top_p, "seed": ask.seed}
        return {key: value for key, value in (asked | self.extra).items() if value is not None}

    def _read(self, found: dict[str, Any]) -> Reply:
        try:
            choice = found["choices"][0]
            text = choice["message"].get("content")
            usage = found.get("usage") or {}
            prompt, completion = (_count(usage.get(f"{part}_tokens")) for part in ("prompt", "completion"))
            return Reply(
                text="" if text is None else str(text), stop=str(choice.get("finish_reason") or ""),
                prompt_tokens=prompt, completion_tokens=completion, served=self._named(str(found.get("model") or "")),
            )  # fmt: skip
        except (KeyError, IndexError, TypeError, AttributeError):
            error = found.get("error")
            return Reply(failure=f"{self.endpoint.url}: answers without a choice: {str(error or found)[:200]}")

    def _named(self, model: str) -> str:
        """Which model has replied: by the name that it gives, and by its weights where they can be read from here."""
        return f"{model or self.model} {self.weights}".strip()

    @cached_property
    def weights(self) -> str:
        """The sum of the weights that a server on this machine says it serves; empty where that is not known."""
        with contextlib.suppress(Unanswered, UserError, Stopping, KeyError, TypeError, AttributeError, OSError):
            once = replace(self.endpoint, retries=0, timeout=LOOK)
            with once.connected():
                cards = once.get("/models")["data"] if self.endpoint.local else []
            for card in cards:
                if card.get("id") == self.model and Path(str(card.get("root"))).is_dir():
                    return f"weights {folder_fingerprint(str(card['root']))[:16]}"
        return ""


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None

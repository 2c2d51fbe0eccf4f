"""What models that judge are asked and reply, and the memory of it: nothing is paid for twice.

A reply's key is the sum of all that it depends on: who is asked (the sum of the weights, or endpoint and model), the
whole prompt, how tokens are drawn, the order of the answers, and which repetition it is. Replies are appended to files,
one for each process (`align.system.lines`). Before a process asks, it claims the key with a lock that ends with it, and
looks whether another has been told the reply meanwhile; so two processes share one memory, and a kill leaves no claim.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from align.errors import RunError, UserError
from align.judges.prompts import Messages
from align.runfolder.lock import Lock
from align.system.files import inner_folder, sweep
from align.system.lines import Tell, append_lines, warn, writer_file
from align.system.sums import digest_of

CLAIMS = "claims"
CLAIM = 32  # digits of a key in the name of its lock


@dataclass(frozen=True, kw_only=True)
class Decoding:
    """How a judge's tokens are drawn."""

    max_tokens: int = 1024
    temperature: float = 0.0
    top_p: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Ask:
    """One prompt for a model that judges."""

    key: str
    who: str  # the sum of the speaker's identity
    messages: Messages
    decoding: Decoding

    @property
    def seed(self) -> int:
        """Of the draw: another for each repetition, and the same in every run."""
        return int(self.key[:8], 16) & 0x7FFFFFFF


def make_ask(who: str, messages: Messages, decoding: Decoding, order: str, repeat: int, vote: int) -> Ask:
    told = {"who": who, "messages": messages, "decoding": asdict(decoding)}
    told |= {"order": order, "repeat": repeat, "vote": vote}
    return Ask(key=digest_of(told), who=who, messages=messages, decoding=decoding)


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What came back. With a `failure` nothing did: it is not remembered, and asked again another time."""

    text: str = ""
    stop: str = ""  # why it ended: stop, length, content_filter
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    served: str = ""  # which model an endpoint says has replied
    failure: str = ""

    @property
    def tokens(self) -> int | None:
        """Paid for, as far as that was told."""
        if self.prompt_tokens is None or self.completion_tokens is None:
            return None
        return self.prompt_tokens + self.completion_tokens


@runtime_checkable
class Speaker(Protocol):
    """A model that replies: behind an endpoint, or in this process."""

    @property
    def exact(self) -> bool:
        """Whether `count` is right, or an estimate."""
        ...

    def identity(self) -> dict[str, Any]:
        """All that its replies depend on beside prompt and decoding."""
        ...

    def speak(self, asks: Iterator[Ask]) -> Iterator[tuple[Ask, Reply]]:
        """Replies as they come; takes as many asks as it can work on at a time."""
        ...

    def count(self, messages: Messages) -> int:
        """Tokens of a prompt."""
        ...


def other_revision(before: Collection[str], now: str) -> str:
    """What is wrong where an endpoint serves another model than it did, up to the cure; else empty."""
    if not before or not now or now in before:
        return ""
    return (
        f"were made by {' and '.join(before)}, and now by {now}: they are not to be mixed. Ask the old one, go on "
        "where it is the same in truth (allow_revision=true), or name the new one"
    )


class Replies:
    """The memory: a folder, or for None this process alone. `allow_revision`: what is served may change."""

    def __init__(self, folder: Path | None = None, tell: Tell = warn, *, allow_revision: bool = False):
        self.folder, self.tell, self.allow_revision = folder, tell, allow_revision
        self._known: dict[str, Reply] = {}
        self._served: dict[str, dict[str, None]] = {}  # speaker -> which models have replied, in their order
        self._read: dict[Path, int] = {}  # bytes of each file that have been read
        self._held: dict[str, Lock] = {}
        if folder is not None:
            with contextlib.suppress(FileNotFoundError):
                sweep(folder / CLAIMS, "*.lock")
            self.refresh()
            self._tell_torn()

    def get(self, key: str) -> Reply | None:
        return self._known.get(key)

    def refresh(self) -> None:
        """Reads what has been written since, by whomever."""
        for path in sorted(self.folder.glob("*.jsonl")) if self.folder else ():
            done = self._read.get(path, 0)
            if path.stat().st_size <= done:
                continue
            with path.open("rb") as file:
                file.seek(done)
                lines = file.read()
            whole = lines.rfind(b"\n") + 1
            for number, line in enumerate(lines[:whole].splitlines()):
                self._take(path, number, line)
            self._read[path] = done + whole

    def put(self, ask: Ask, reply: Reply) -> None:
        """Remembers a reply. RunError where another model than before has made it."""
        before = self.served(ask.who)
        if not self.allow_revision and (changed := other_revision(before, reply.served)):
            raise RunError(
                f"replies of this judge {changed} as another judge (name=..., and revision=... of the endpoint)"
            )
        row = {"key": ask.key, "who": ask.who, **{k: v for k, v in asdict(reply).items() if v not in ("", None)}}
        if self.folder is not None:
            append_lines(writer_file(self.folder, "replies"), [row])
        self._know(ask.key, ask.who, reply)

    def served(self, who: str) -> tuple[str, ...]:
        """Which models have replied so far, as the endpoint calls them; empty where none has, or none said."""
        return tuple(self._served.get(who, ()))

    def claim(self, key: str) -> bool:
        """Whether this process may ask. False where another is asking; then its reply is worth waiting for."""
        if self.folder is None:
            return True
        lock = Lock(inner_folder(self.folder / CLAIMS) / f"{key[:CLAIM]}.lock")
        try:
            lock.take()
        except UserError:
            return False
        self._held[key] = lock
        return True

    def release(self, key: str) -> None:
        if lock := self._held.pop(key, None):
            lock.path.unlink(missing_ok=True)  # who waits for it looks for the reply before it asks
            lock.release()

    def release_all(self) -> None:
        for key in list(self._held):
            self.release(key)

    def _know(self, key: str, who: str, reply: Reply) -> None:
        self._known.setdefault(key, reply)
        if reply.served:
            self._served.setdefault(who, {})[reply.served] = None

    def _take(self, path: Path, number: int, line: bytes) -> None:
        try:
            row = json.loads(line)
            self._know(str(row.pop("key")), str(row.pop("who")), Reply(**row))
        except (ValueError, KeyError, TypeError, AttributeError):
            self.tell(f"{path}: line {number + 1} of what was read is no reply, and is left out: it is asked again")

    def _tell_torn(self) -> None:
        for path, done in self._read.items():
            if path.stat().st_size > done:
                self.tell(f"{path}: ends in the midst of a line, as a kill leaves it; that reply is asked again")

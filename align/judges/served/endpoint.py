"""JSON over HTTP to an OpenAI-compatible endpoint: asked again while that may help, given up with a reason.

The key is read from an environment variable when it is sent, and stands nowhere else: in no file, no message, no
identity. Nothing is followed elsewhere (redirects), where the key would go along.
"""

from __future__ import annotations

import datetime
import email.utils
import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import httpx

from align.errors import RunError, UserError

USUAL_KEY = "OPENAI_API_KEY"  # which need not be set; one that is named must be
BACK_OFF = 0.5  # seconds before the second try, doubled before each further one
LONGEST_PAUSE = 300.0  # seconds that an endpoint may ask to be left alone
LARGEST = 16 * 2**20  # bytes of an answer
SHOWN = 300  # characters of an endpoint's own words
BUSY = (408, 409, 425, 429)  # beside 5xx: asking again may help
LOCAL = ("localhost", "127.0.0.1", "::1")


class Unanswered(RunError):
    """Nothing of use came back, after all tries."""


class Refused(Unanswered):
    """The endpoint understood and will not: asking the same again is of no use."""


class Stopping(Exception):
    """Somebody else has found that it is of no use to go on."""


@dataclass(frozen=True)
class Again(Exception):
    """This try failed; another may not."""

    trouble: str
    pause: float | None = None  # seconds that the endpoint asks for


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """A base URL such as http://127.0.0.1:8000/v1; may be used by several threads."""

    base_url: str
    key_env: str = USUAL_KEY  # the environment variable that holds the key; none is sent where it is not set
    timeout: float = 120.0  # seconds for a whole answer
    retries: int = 5  # further tries
    per_minute: float = 0.0  # requests, over all threads; 0: no limit
    _pace: Pace = field(init=False, repr=False, compare=False)
    _client: httpx.Client | None = field(init=False, repr=False, compare=False, default=None)

    def __post_init__(self):
        parts = urlsplit(self.base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UserError(f"--base-url {self.base_url!r}: expected an address such as http://127.0.0.1:8000/v1")
        if parts.username or parts.password or parts.query or parts.fragment:
            raise UserError(
                f"--base-url: {parts.hostname}: has a name, a password or a query in it, which would be written into "
                f"results; leave it out and put the key into the environment variable {self.key_env}"
            )
        vars(self)["_pace"] = Pace(60 / self.per_minute if self.per_minute else 0.0)

    @property
    def url(self) -> str:
        return self.base_url.rstrip("/")

    @property
    def local(self) -> bool:
        """Whether it is on this machine."""
        return urlsplit(self.base_url).hostname in LOCAL

    def get(self, path: str) -> Any:
        return self._ask("GET", path, None)

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        found = self._ask("POST", path, body)
        if not isinstance(found, dict):
            raise Refused(f"{self.url}: answers {path} with a {type(found).__name__}, expected an object")
        return found

    @contextmanager
    def connected(self) -> Iterator[None]:
        """While this lasts, connections are kept open between requests."""
        self.begin()
        try:
            yield
        finally:
            self.close()

    def begin(self) -> None:
        """From here on connections are kept open, until `close`. Without it every request opens one of its own."""
        self._pace.stopped.clear()
        if self._client is None:
            vars(self)["_client"] = self._new_client()

    def close(self) -> None:
        if self._client is not None:
            self._client.close()
            vars(self)["_client"] = None

    def _new_client(self) -> httpx.Client:
        return httpx.Client(timeout=self.timeout, follow_redirects=False, trust_env=not self.local)

    def stop(self) -> None:
        """Ends the tries of all threads, until it begins again."""
        self._pace.stopped.set()

    def _ask(self, method: str, path: str, body: dict[str, Any] | None) -> Any:
        trouble = ""
        for tries in range(self.retries + 1):
            pause = BACK_OFF * 2 ** (tries - 1) if tries else 0.0
            self._pace.wait(pause)
            try:
                return self._once(method, path, body)
            except Again as again:
                trouble = again.trouble
                if again.pause is not None:
                    if again.pause > LONGEST_PAUSE:
                        raise Unanswered(f"{self.url}: {trouble}; it asks for {again.pause:.0f} seconds") from None
                    self._pace.hold(again.pause)
        raise Unanswered(f"{self.url}: {trouble} (tried {self.retries + 1} times)")

    def _once(self, method: str, path: str, body: dict[str, Any] | None) -> Any:
        until = time.monotonic() + self.timeout
        try:
            with self._sent(method, path, body) as answer:
                content = bytearray()
                for piece in answer.iter_bytes():
                    content += piece
                    if time.monotonic() > until:  # an answer may also come so slowly that no single read is late
                        raise httpx.ReadTimeout("slow")
                    if len(content) > LARGEST:
                        raise Refused(f"{self.url}: an answer of more than {LARGEST >> 20} MiB")
        except httpx.TimeoutException:
            raise Again(f"no whole answer within {self.timeout:g} seconds") from None
        except httpx.TransportError as error:
            raise Again(f"cannot be reached: {str(error) or type(error).__name__}") from None
        return self._read(answer, bytes(content).decode("utf-8", errors="replace"), path)

    @contextmanager
    def _sent(self, method: str, path: str, body: dict[str, Any] | None) -> Iterator[httpx.Response]:
        headers = {}
        if self.key_env != USUAL_KEY and not os.environ.get(self.key_env, "").strip():
            raise UserError(f"key_env: the environment variable {self.key_env} is not set; put the key into it")
        if key := os.environ.get(self.key_env, "").strip():
            if not (key.isascii() and key.isprintable()):
                raise UserError(f"the environment variable {self.key_env} holds characters that no key has")
            headers["Authorization"] = f"Bearer {key}"
        own = None if self._client else self._new_client()
        try:
            client = self._client or own
            assert client is not None
            with client.stream(method, self.url + path, json=body, headers=headers) as answer:
                yield answer
        finally:
            if own is not None:
                own.close()

    def _read(self, answer: httpx.Response, text: str, path: str) -> Any:
        status = answer.status_code
        if status in (401, 403):
            has = "is sent" if os.environ.get(self.key_env) else "is not set"
            raise UserError(f"{self.url}: answers {status}: {message(text)}; the key in {self.key_env} {has}")
        if status >= 500 or status in BUSY:
            raise Again(f"answers {status}: {message(text)}", retry_after(answer.headers.get("retry-after", "")))
        if status >= 300:
            raise Refused(f"{self.url}{path}: answers {status}: {message(text)}")
        if not text.strip():
            raise Again("answers with nothing")
        try:
            return json.loads(text)
        except ValueError:
            kind = "HTML" if text.lstrip()[:1] == "<" else "no JSON, or half of one"
            raise Again(f"answers {path} with {kind}: {text[:60]!r}") from None


class Pace:
    """When the next request may be sent, for all threads."""

    def __init__(self, interval: float):
        self.interval = interval  # seconds between requests
        self.stopped = threading.Event()
        self._lock = threading.Lock()
        self._slot = self._held = 0.0

    def hold(self, seconds: float) -> None:
        """Nobody sends anything for so long."""
        with self._lock:
            self._held = max(self._held, time.monotonic() + seconds)

    def wait(self, pause: float) -> None:
        """Until this request may be sent, and at least `pause` seconds. Stopping where that was ended."""
        now = time.monotonic()
        with self._lock:
            slot = max(self._slot, now)
            self._slot = slot + self.interval
        until = max(slot, now + pause)
        while (left := max(until, self._held) - time.monotonic()) > 0 and not self.stopped.wait(left):
            pass
        if self.stopped.is_set():
            raise Stopping


def retry_after(value: str) -> float | None:
    """Seconds, of either form that HTTP has: a number, or a date."""
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        when = email.utils.parsedate_to_datetime(value)
    except (ValueError, TypeError):
        return None
    when = when if when.tzinfo else when.replace(tzinfo=datetime.UTC)
    return max(0.0, (when - datetime.datetime.now(datetime.UTC)).total_seconds())


def message(text: str) -> str:
    """What an endpoint says is wrong, out of the forms that are common."""
    try:
        found = json.loads(text)
        error = found.get("error", found.get("detail", found))
        said = error.get("message", error) if isinstance(error, dict) else error
    except (ValueError, AttributeError):
        said = text
    return " ".join(str(said).split())[:SHOWN] or "nothing"

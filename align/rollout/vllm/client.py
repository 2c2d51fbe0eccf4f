"""JSON over HTTP to a vLLM server: asked again while it may come back, given up with a reason.

Proxies of the environment are passed by. A key that the server wants is read from VLLM_API_KEY.
"""

from __future__ import annotations

import http.client
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from align.errors import RunError

CONNECT = 10.0  # seconds for a connection; an answer may take longer
BACK_OFF = 0.5  # seconds before the second try, doubled before each further one
AGAIN = "see that a server runs, then go on with --resume"  # the cure of most that a server does
SHOWN = 500  # characters of a server's own words


class ServerError(RunError):
    """The server cannot be reached, does not answer in time, or answers with an error."""

    def with_cure(self, cure: str) -> str:
        """The text with what to do, before the lines of a log that may follow its first."""
        first, newline, log = str(self).partition("\n")
        return f"{first}; {cure}{newline}{log}"


class Refused(ServerError):
    """The server understood, and will not (status 4xx): asking again is of no use."""


def always_up() -> str:
    return ""


@dataclass(frozen=True)
class Client:
    """A server at a base URL such as http://127.0.0.1:8000; may be used by several threads."""

    url: str
    timeout: float = 600.0  # seconds for an answer
    retries: int = 3  # further tries where the connection breaks or the status is 5xx
    ended: Callable[[], str] = always_up  # why it is of no use to go on trying; empty while it is

    def get(self, path: str) -> Any:
        return self._parsed(path, self.text(path))

    def post(self, path: str, body: dict[str, Any]) -> Any:
        return self._parsed(path, self._ask("POST", path, body))

    def text(self, path: str) -> str:
        """An answer that is no JSON."""
        return self._ask("GET", path, None)

    def _ask(self, method: str, path: str, body: dict[str, Any] | None) -> str:
        trouble, tries = "", 0
        for tries in range(1, self.retries + 2):
            if tries > 1:
                time.sleep(BACK_OFF * 2 ** (tries - 2))
            try:
                return self._once(method, path, body)
            except Refused:
                raise
            except TimeoutError:  # the request may still be worked on: asking again would only add to it
                raise ServerError(f"vLLM at {self.url}: no answer to {path} within {self.timeout:g} seconds") from None
            except (OSError, http.client.HTTPException, ServerError) as error:
                trouble = str(error) or type(error).__name__
            if reason := self.ended():
                raise ServerError(f"vLLM at {self.url}: {reason}")
        raise ServerError(f"vLLM at {self.url}: {path}: {trouble} (tried {tries} times)")

    def _once(self, method: str, path: str, body: dict[str, Any] | None) -> str:
        parts = urlsplit(self.url)
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        connection = kind(parts.hostname or "", parts.port, timeout=min(CONNECT, self.timeout))
        headers = {"Content-Type": "application/json"}
        if key := os.environ.get("VLLM_API_KEY"):
            headers["Authorization"] = f"Bearer {key}"
        try:
            self._connect(connection)
            connection.sock.settimeout(self.timeout)
            data = None if body is None else json.dumps(body)
            connection.request(method, parts.path.rstrip("/") + path, data, headers)
            answer = connection.getresponse()
            return self._read(path, answer.status, answer.read())
        finally:
            connection.close()

    def _connect(self, connection: http.client.HTTPConnection) -> None:
        try:
            connection.connect()
        except TimeoutError:
            raise ServerError("no connection") from None

    def _read(self, path: str, status: int, content: bytes) -> str:
        text = content.decode("utf-8", errors="replace")
        if status >= 500:
            raise ServerError(f"answers {status}: {_message(text)}")
        if status >= 300:
            raise Refused(f"vLLM at {self.url}: {path}: answers {status}: {_message(text)}")
        return text

    def _parsed(self, path: str, text: str) -> Any:
        if not text.strip():
            return None
        try:
            return json.loads(text)
        except ValueError:
            raise Refused(f"vLLM at {self.url}: {path}: answers {text[:SHOWN]!r}, which is no JSON") from None


def _message(text: str) -> str:
    """What the server says is wrong, out of OpenAI's form of it."""
    try:
        found = json.loads(text)
        message = found["error"]["message"] if "error" in found else found["detail"]
    except (ValueError, KeyError, TypeError):
        message = text
    return str(message).strip()[:SHOWN]

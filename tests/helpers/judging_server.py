"""A real HTTP server on this machine that speaks as an OpenAI-compatible endpoint does, well or badly.

Its model prefers the longer of two answers (a tie where they are equally long), grades one answer by its length, and
says so in the form that is asked for. What it does wrong, and how often, is said by `faults`.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = tuple[int, dict[str, str], bytes]  # status, headers, body
Fault = Callable[[int], Answer | None]  # number of the request, from 1 -> what goes wrong, if anything


@dataclass
class JudgingServer:
    """What it was asked, and how it behaves."""

    model: str = "judge-1"
    fingerprint: str = ""
    fault: Fault = lambda number: None
    delay: float = 0.0  # seconds before an answer
    say: Callable[[str], str] | None = None  # another judge
    port: int = 0  # 0: any
    bodies: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    served: int = 0  # replies with a verdict that have left: what was paid
    most: int = 0  # requests at a time
    lock: threading.Lock = field(default_factory=threading.Lock)
    _now: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def answer(self, body: dict[str, Any], headers: dict[str, str]) -> Answer:
        with self.lock:
            self.bodies.append(body)
            self.headers.append(headers)
            self.times.append(time.monotonic())
            number = len(self.bodies)
            self._now += 1
            self.most = max(self.most, self._now)
        try:
            time.sleep(self.delay)
            if (wrong := self.fault(number)) is not None:
                return wrong
            return 200, {}, json.dumps(self.reply(body)).encode()
        finally:
            with self.lock:
                self._now -= 1

    def reply(self, body: dict[str, Any]) -> dict[str, Any]:
        prompt = body["messages"][-1]["content"]
        text = (self.say or longer)(prompt)
        cut = len(text.split()) > body["max_tokens"]
        text = " ".join(text.split()[: body["max_tokens"]]) if cut else text
        said = {"role": "assistant", "content": text}
        choice = {"index": 0, "message": said, "finish_reason": "length" if cut else "stop"}
        usage = {"prompt_tokens": len(prompt.split()), "completion_tokens": len(text.split())}
        self.served += 1
        named = {"model": self.model, **({"system_fingerprint": self.fingerprint} if self.fingerprint else {})}
        return {"id": "1", "object": "chat.completion", **named, "choices": [choice], "usage": usage}


def shown(prompt: str, what: str) -> str:
    """One of the framed parts of a prompt."""
    found = re.search(rf"^ *\[{what} (\w+)\]\n(.*?)\n *\[end of {what} \1\]", prompt, re.DOTALL | re.MULTILINE)
    assert found, (what, prompt)
    return found[2].strip()


def longer(prompt: str) -> str:
    """The verdict on the answers in a prompt, as it asks for it."""
    if "[answer A " not in prompt:
        return f"It has that length.\n[[{min(10, 1 + len(shown(prompt, 'answer')) / 10):g}]]"
    a, b = len(shown(prompt, "answer A")), len(shown(prompt, "answer B"))
    letter = "C" if a == b else "A" if a > b else "B"
    levels = {"A": "A>>B", "B": "B>>A", "C": "A=B"}
    return f"The longer one is better.\n[[{levels[letter] if '[[A>>B]]' in prompt else letter}]]"


@contextmanager
def serving(**behaviour: Any) -> Iterator[JudgingServer]:
    """While this lasts, the server answers at `url`."""
    state = JudgingServer(**behaviour)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.send(200, {}, json.dumps({"data": [{"id": state.model}]}).encode())

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self.send(*state.answer(body, dict(self.headers)))

        def send(self, status: int, headers: dict[str, str], body: bytes) -> None:
            try:
                self.send_response(status)
                for name, value in {"Content-Length": str(len(body)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)
            except (BrokenPipeError, ConnectionResetError):
                pass  # who asked has gone

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", state.port), Handler)
    server.daemon_threads = True
    state.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

"""Stands for a vLLM server: answers what a test lays down, and starts as one does, or fails to."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from align.rollout.settings import RolloutSection

COMMAND = f"{sys.executable} {Path(__file__)}"
DROPPED = 0  # instead of a status: the connection is closed without an answer
CARD = {"id": "policy", "root": "/nowhere", "max_model_len": 512}


@dataclass
class Fake:
    """What is answered by path, and what was asked."""

    answers: dict[str, Any] = field(default_factory=dict)  # path -> JSON, a status, or a function of the body
    texts: dict[str, str] = field(default_factory=dict)  # path -> an answer that is no JSON
    asked: list[tuple[str, Any]] = field(default_factory=list)
    url: str = ""
    weights: str = "mine:3"  # their label
    delay: float = 0.0

    def answer(self, path: str, body: Any) -> tuple[int, Any]:
        self.asked.append((path, body))
        time.sleep(self.delay)
        found = self.answers.get(path.partition("?")[0], 404)
        found = found(body) if callable(found) else found
        return (found, {"error": {"message": f"status {found}"}}) if isinstance(found, int) else (200, found)


    def update(self, body: Any) -> dict[str, Any]:
        self.weights = body["new_version"]
        return {}


def settings(**given: Any) -> RolloutSection:
    from align.rollout.settings import RolloutSection  # here, as the program itself knows nothing of the package

    given = {"vllm_server_timeout": 20.0, "vllm_retries": 0, **given}
    return RolloutSection(engine="vllm", **given)


def usual(fake: Fake) -> dict[str, Any]:
    return {
        "/health": {},
        "/v1/models": {"data": [dict(CARD)]},
        "/weight_info": lambda _: {"weight_version": fake.weights},
        "/update_weight_version": fake.update,
        "/collective_rpc": {},
        "/reset_prefix_cache": {},
        "/server_info": {"vllm_config": {"model_config": {"logprobs_mode": "raw_logprobs"}}},
        "/v1/completions": lambda body: completion([5] * body["max_tokens"]),
    }


def completion(tokens: list[int], **more: Any) -> dict[str, Any]:
    logps = {"token_logprobs": [-0.5] * len(tokens)}
    choice = {"token_ids": tokens, "logprobs": logps, "finish_reason": "length", "stop_reason": None}
    return {"choices": [{**choice, **more}]}


def _handler(fake: Fake) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def _do(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            status, answer = (200, None) if self.path in fake.texts else fake.answer(self.path, body)
            if status == DROPPED:
                return
            content = fake.texts.get(self.path, json.dumps(answer)).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = _do

        def log_message(self, *words: Any) -> None:
            pass

    return Handler


@contextmanager
def serving(**more: Any) -> Iterator[Fake]:
    fake = Fake(**more)
    fake.answers = usual(fake)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(fake))
    server.daemon_threads = True
    fake.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield fake
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def main(words: list[str]) -> None:
    """As a program: `--die` ends after a line, `--deaf` never answers."""
    print("a line of the log", flush=True)
    if "--die" in words:
        sys.exit("no memory for the cache")
    if "--deaf" in words:
        time.sleep(60)
    fake = Fake()
    fake.answers = usual(fake)
    port = int(words[len(words) - words[::-1].index("--port")])  # the last one wins
    ThreadingHTTPServer(("127.0.0.1", port), _handler(fake)).serve_forever()


if __name__ == "__main__":
    main(sys.argv[1:])

"""A real HTTP server on this machine that answers as OpenAI's do, or fails to."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from align.judges.served import endpoint as endpoints
from align_eval.cli import main
from align_eval.results.reading import read
from align_eval.store import read_answers

YAML = """\
name: sums
version: 1
rows: sums.jsonl
prompt: "{{ a }} + 1 ="
reference: "{{ a + 1 }}"
extract: {flexible: {by: final_answer}}
score: {by: math}
stop_strings: ["\\nNext"]
headline: accuracy_flexible
"""
CHOICES = """\
name: pick
version: 1
rows: sums.jsonl
prompt: "{{ a }} is"
reference: "{{ 'even' if a % 2 == 0 else 'odd' }}"
mode: choose
choices: "['odd', 'even']"
score: {by: choice}
headline: accuracy
"""


class Server:
    """Adds one to the first number of the prompt; `wrong` says with which status it answers whom."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.wrong: dict[str, int] = {}
        self.models = ["adder"]
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._say(200, {"data": [{"id": name} for name in server.models]})

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                server.asked.append(body)
                self._say(*server.answer(body))

            def _say(self, status: int, told: Any) -> None:
                content = json.dumps(told).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *words: Any) -> None:
                """Nothing."""

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}/v1"

    def answer(self, body: dict[str, Any]) -> tuple[int, Any]:
        prompt = body["prompt"] if "prompt" in body else body["messages"][-1]["content"]
        first = prompt.split()[0]
        if status := self.wrong.get(first):
            return status, {"error": {"message": f"status {status}"}}
        if body.get("echo"):
            return 200, {"choices": [{"text": prompt, "logprobs": echoed(prompt)}]}
        usage = {"prompt_tokens": 5, "completion_tokens": 2}
        text = f"It is {int(first) + 1}.\nNext: 99"
        choice = {"finish_reason": "stop", "text": text, "message": {"content": text}}
        return 200, {"choices": [choice], "usage": usage}


def echoed(prompt: str) -> dict[str, Any]:
    """A token for each word with the blank before it; the right word is likelier."""
    offsets, logps = [], []
    at = 0
    for i, word in enumerate(prompt.split(" ")):
        offsets.append(at)
        at += len(word) + (i > 0)  # the blank before it
        right = "even" if int(prompt.split()[0]) % 2 == 0 else "odd"
        logps.append(None if i == 0 else -0.5 if word == right else -2.0)
    return {"text_offset": offsets, "token_logprobs": logps}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(endpoints, "BACK_OFF", 0.001)
    made = Server()
    thread = threading.Thread(target=made.http.serve_forever, daemon=True)
    thread.start()
    yield made
    made.http.shutdown()
    made.http.server_close()
    thread.join()


def task_in(folder: Path, text: str, count: int = 6) -> str:
    (folder / "sums.jsonl").write_text("".join(json.dumps({"a": i}) + "\n" for i in range(count)))
    (folder / "task.yaml").write_text(text)
    return str(folder / "task.yaml")


def test_answers_are_scored_and_paid_once(server: Server, tmp_path: Path):
    task, out = task_in(tmp_path, YAML), str(tmp_path / "out")
    for _ in range(2):
        assert main(["run", task, "--model", server.url, "--out", out, "system=Be brief."]) == 0
    assert len(server.asked) == 6
    (row,) = [r for r in read(Path(out)).sections.scores if r.metric == "accuracy_flexible"]
    assert (row.model, row.estimate.value, row.estimate.n) == ("adder", 1.0, 6)
    first = server.asked[0]
    assert first["messages"][0] == {"role": "system", "content": "Be brief."}
    assert (first["model"], first["temperature"], first["max_tokens"]) == ("adder", 0.0, 512)
    answers = read_answers(Path(out))
    assert all(a.text == f"It is {int(a.item.partition('/')[2]) + 1}." for a in answers)  # cut at the stop string
    assert {a.num_tokens for a in answers} == {2}


def test_what_was_not_answered_is_asked_again_and_nothing_else(server: Server, tmp_path: Path):
    task, out = task_in(tmp_path, YAML), str(tmp_path / "out")
    server.wrong = {"3": 500}
    assert main(["run", task, "--model", server.url, "--out", out]) == 1
    assert len(read_answers(Path(out))) == 5
    server.wrong, server.asked = {}, []
    assert main(["run", task, "--model", server.url, "--out", out]) == 0
    assert [body["messages"][0]["content"] for body in server.asked] == ["3 + 1 ="]


def test_what_is_refused_is_missing_with_its_reason(server: Server, tmp_path: Path):
    task, out = task_in(tmp_path, YAML), str(tmp_path / "out")
    server.wrong = {"3": 400}
    assert main(["run", task, "--model", server.url, "--out", out]) == 0
    found = read(Path(out))
    (failure,) = found.failures
    assert (failure.what, failure.count, failure.item) == ("sums: not scored", 1, "sums/3")
    assert "status 400" in failure.why
    (row,) = [r for r in found.sections.scores if r.metric == "accuracy_flexible"]
    assert (row.estimate.value, row.estimate.n) == (1.0, 5)


def test_choices_by_the_log_probabilities_of_an_echo(server: Server, tmp_path: Path):
    task, out = task_in(tmp_path, CHOICES), str(tmp_path / "out")
    assert main(["run", task, "--model", server.url, "--out", out, "form=text"]) == 0
    rows = {r.metric: r.estimate.value for r in read(Path(out)).sections.scores}
    assert rows["accuracy"] == 1.0
    assert rows["probability"] == pytest.approx(1 / (1 + 2.718281828**-1.5))  # e^-0.5 against e^-2


def test_a_chat_endpoint_cannot_choose(server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["run", task_in(tmp_path, CHOICES), "--model", server.url, "--out", str(tmp_path / "out")]) == 2
    assert "set form=text, or name a model folder" in capsys.readouterr().err


def test_one_of_several_models_must_be_named(server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    server.models = ["adder", "other"]
    task, out = task_in(tmp_path, YAML), str(tmp_path / "out")
    assert main(["run", task, "--model", server.url, "--out", out]) == 2
    assert f"serves adder, other; name one: {server.url}#MODEL" in capsys.readouterr().err
    assert main(["run", task, "--model", f"{server.url}#adder", "--out", out]) == 0

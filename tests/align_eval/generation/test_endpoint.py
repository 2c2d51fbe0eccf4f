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
        self.card: dict[str, Any] = {}  # what its list of models says beside their names
        self.named: dict[str, Any] = {}  # what answers say of who has replied
        self.page = ""  # what people see who come to another address
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._say(200, {"data": [{"id": name, **server.card} for name in server.models]})

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                server.asked.append(body)
                self._say(*server.answer(body))

            def _say(self, status: int, told: Any) -> None:
                content = (server.page or json.dumps(told)).encode()
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
        return 200, {"choices": [choice], "usage": usage, **self.named}


def echoed(prompt: str) -> dict[str, Any]:
    """A token for each word with the blank before it; the right word is likelier. As vLLM does, it tells a token that
    it has put before them, counts offsets from there, and writes one more."""
    words = prompt.split(" ")
    tokens = ["<s>", *(word if i == 0 else f" {word}" for i, word in enumerate(words)), " more"]
    right = "even" if int(words[0]) % 2 == 0 else "odd"
    logps = [None, -9.0, *(-0.5 if word == right else -2.0 for word in words[1:]), -7.0]
    offsets = [sum(map(len, tokens[:i])) for i in range(len(tokens))]
    return {"tokens": tokens, "text_offset": offsets, "token_logprobs": logps}


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


def test_what_was_not_answered_is_asked_again_and_nothing_else(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    task, out = task_in(tmp_path, YAML), str(tmp_path / "out")
    server.wrong = {"3": 500}
    assert main(["generate", task, "--model", server.url, "--out", out]) == 4
    assert len(read_answers(Path(out))) == 5
    told = capsys.readouterr()
    assert "sums: 5 answers of adder" in told.out
    assert f"1 missing: {server.url}: answers 500: status 500 (tried 6 times)" in told.out
    assert "without an answer: 1 answers of adder to sums" in told.err
    server.wrong, server.asked = {}, []
    assert main(["generate", task, "--model", server.url, "--out", out]) == 0
    assert [body["messages"][0]["content"] for body in server.asked] == ["3 + 1 ="]


@pytest.mark.parametrize("status", [400, 500])
def test_what_did_not_come_has_no_score_until_it_comes(server: Server, status: int, tmp_path: Path):
    task, out = task_in(tmp_path, YAML), str(tmp_path / "out")
    server.wrong = {"3": status}
    command = ["run", task, "--model", server.url, "--out", out]
    assert main(command) == 4
    found = read(Path(out))
    (failure,) = found.failures
    assert (failure.what, failure.count, failure.item) == ("sums: not scored", 1, "sums/3")
    assert f"status {status}" in failure.why
    (row,) = [r for r in found.sections.scores if r.metric == "accuracy_flexible"]
    assert (row.estimate.value, row.estimate.n) == (1.0, 5)
    server.wrong, server.asked = {}, []
    assert main(command) == 0
    assert len(server.asked) == 1
    found = read(Path(out))
    assert not found.failures
    (row,) = [r for r in found.sections.scores if r.metric == "accuracy_flexible"]
    assert (row.estimate.value, row.estimate.n) == (1.0, 6)


def test_where_nothing_came_at_all_that_is_a_failure(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    task, out = task_in(tmp_path, YAML), str(tmp_path / "out")
    server.wrong = {str(i): 400 for i in range(6)}
    assert main(["generate", task, "--model", server.url, "--out", out]) == 1
    assert "adder: nothing came back, for the reasons above" in capsys.readouterr().err


def test_an_address_under_which_nothing_came_binds_nobody(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    task, out = task_in(tmp_path, YAML), str(tmp_path / "out")
    right = f"{server.url}#adder"
    wrong = right.replace("/v1", "/v2")
    server.page = "<html>Welcome</html>"
    assert main(["generate", task, "--model", wrong, "--out", out]) == 2
    assert "is an endpoint there?" in capsys.readouterr().err
    server.page, server.wrong = "", {str(i): 404 for i in range(6)}
    assert main(["generate", task, "--model", wrong, "--out", out]) == 2
    assert "is 'adder' served there" in capsys.readouterr().err
    server.wrong = {}
    assert main(["generate", task, "--model", right, "--out", out]) == 0
    assert main(["generate", task, "--model", wrong, "--out", out]) == 2
    assert f'model.url: was "{server.url}", now ' in capsys.readouterr().err


@pytest.mark.parametrize("where", ["named", "card"])
def test_another_revision_is_told_and_refused_unless_asked_for(
    where: str, server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    task, out = task_in(tmp_path, YAML), str(tmp_path / "out")
    key = "system_fingerprint" if where == "named" else "root"
    setattr(server, where, {key: "first"})
    server.wrong = {"3": 500, "4": 500}
    command = ["generate", task, "--model", server.url, "--out", out, "concurrency=1"]
    assert main(command) == 4
    server.wrong = {}
    setattr(server, where, {key: "second"})
    assert main(command) == (1 if where == "named" else 2)
    told = capsys.readouterr().err
    if where == "named":
        assert "were made by first, and now by second: they are not to be mixed" in told
        assert len(read_answers(Path(out))) == 4
        assert main([*command, "allow_revision=true"]) == 0
        assert "its answers were written by first and second" in capsys.readouterr().err
    else:
        assert 'model.root: was "first", now "second"' in told
        assert main([*(f"other={word}" if word == server.url else word for word in command)]) == 0


def test_a_budget_ends_it_and_the_same_command_goes_on(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    task, out = task_in(tmp_path, YAML), str(tmp_path / "out")
    command = ["run", task, "--model", server.url, "--out", out, "max_calls=4"]
    assert main([*command, "--dry-run"]) == 0
    assert "the budget of 4 calls ends it before all 6 calls are made" in capsys.readouterr().out
    assert not server.asked
    assert main(command) == 75
    assert "the budget of 4 calls is spent: 2 answers of adder to sums were not asked for" in capsys.readouterr().err
    assert len(server.asked) == 4
    (failure,) = read(Path(out)).failures
    assert failure.count == 2
    assert failure.why.startswith("no answer: not asked: the budget of 4 calls is spent")
    assert main(command) == 0
    assert len(server.asked) == 6
    assert not read(Path(out)).failures


def test_a_budget_of_tokens_is_never_passed(server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """One answer may take 10 tokens of its prompt (as counted here: 7 bytes by 3, and 8 around) and 40 more; it takes
    5 and 2, as the endpoint says. So after k answers 7 k are spent, and another is begun where 50 are left."""
    task, out = task_in(tmp_path, YAML, count=9), str(tmp_path / "out")
    command = ["generate", task, "--model", server.url, "--out", out, "max_completion_length=40", "concurrency=1"]
    assert main([*command, "max_total_tokens=49"]) == 2
    assert "max_total_tokens=49: one of adder may take 50 tokens; allow so many" in capsys.readouterr().err
    assert main([*command, "max_total_tokens=80"]) == 75
    assert len(server.asked) == 5  # 4 are 28, and 52 are left; 5 are 35, and 45 are left
    assert main([*command, "max_total_tokens=80"]) == 0


def test_choices_by_the_log_probabilities_of_an_echo(server: Server, tmp_path: Path):
    task, out = task_in(tmp_path, CHOICES), str(tmp_path / "out")
    assert main(["run", task, "--model", server.url, "--out", out, "form=text"]) == 0
    rows = {r.metric: r.estimate.value for r in read(Path(out)).sections.scores}
    assert rows["accuracy"] == 1.0
    assert rows["probability"] == pytest.approx(1 / (1 + 2.718281828**-1.5))  # e^-0.5 against e^-2


def test_a_choice_whose_tokens_cannot_be_told_apart_has_none(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def joined(prompt: str) -> dict[str, Any]:
        return {"tokens": [prompt, "."], "token_logprobs": [-1.0, -1.0]}

    monkeypatch.setitem(globals(), "echoed", joined)
    task, out = task_in(tmp_path, CHOICES), str(tmp_path / "out")
    assert main(["generate", task, "--model", server.url, "--out", out, "form=text"]) == 0
    assert "6 missing: the endpoint's tokens cross the border" in capsys.readouterr().out


def test_a_chat_endpoint_cannot_choose(server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["run", task_in(tmp_path, CHOICES), "--model", server.url, "--out", str(tmp_path / "out")]) == 2
    assert "set form=text, or name a model folder" in capsys.readouterr().err


def test_one_of_several_models_must_be_named(server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    server.models = ["adder", "other"]
    task, out = task_in(tmp_path, YAML), str(tmp_path / "out")
    assert main(["run", task, "--model", server.url, "--out", out]) == 2
    assert f"serves adder, other; name one: {server.url}#MODEL" in capsys.readouterr().err
    assert main(["run", task, "--model", f"{server.url}#adder", "--out", out]) == 0

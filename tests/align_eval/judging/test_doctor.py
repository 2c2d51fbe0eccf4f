"""`align-eval doctor` at endpoints that can do all, little, or nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest
from judging_server import JudgingServer, longer, serving

from align_eval.cli import main
from align_eval.judging.endpoint import Examined, examine


class Able(JudgingServer):
    """An endpoint that heeds all it is asked for."""

    def reply(self, body: dict[str, Any]) -> dict[str, Any]:
        prompt, system = body["messages"][-1]["content"], body["messages"][0]["content"]
        found = super().reply(body)
        choice = found["choices"][0]
        if "[answer A" in prompt:
            return found
        text = "Apple"
        if "cherry" in system:
            text = "Cherry."
        elif "seed" in body:
            text = f"Sentence {body['seed']}."
        elif body.get("response_format"):
            text = '{"score": 3}'
        elif body["max_tokens"] < 10:
            text, choice["finish_reason"] = "one two three four", "length"
        if body.get("logprobs"):
            choice["logprobs"] = {"content": [{"token": "yes", "logprob": -0.1}]}
        choice["message"]["content"] = text
        found["usage"]["completion_tokens"] = min(4, body["max_tokens"])
        return found


def talk(prompt: str) -> str:
    """Of a model that says yes to all, and prefers the shorter answer."""
    return "[[A]]" if "[answer A" in prompt else "Yes."


def checks(found: Examined) -> dict[str, str]:
    return {check.what: check.works for check in found.checks}


def test_an_endpoint_that_can_do_all(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("judging_server.JudgingServer", Able)
    with serving(say=talk) as server:
        found = examine(server.url)
        assert (found.model, set(checks(found).values()), found.can_judge) == ("judge-1", {"yes"}, True)
        assert main(["doctor", server.url]) == 0
    out = capsys.readouterr().out
    assert "can     logprobs  gives log-probabilities of its tokens" in out
    assert "compares two answers and gives a verdict, the right one" in out
    assert out.endswith("It can judge.\n")


def test_an_endpoint_that_can_little(capsys: pytest.CaptureFixture[str]) -> None:
    with serving(say=lambda prompt: "Yes." if "[answer A" not in prompt else longer(prompt)) as server:
        found = examine(server.url, "other-name")
        assert checks(found) == {
            "models": "yes", "chat": "yes", "usage": "yes", "system": "unknown", "limit": "no", "seed": "unknown",
            "logprobs": "no", "json": "no", "verdict": "yes",
        }  # fmt: skip
        assert "the wrong one" in found.checks[-1].told
        assert found.can_judge


def test_an_endpoint_that_gives_no_verdicts(capsys: pytest.CaptureFixture[str]) -> None:
    with serving(say=lambda prompt: "I like both.") as server:
        assert main(["doctor", server.url]) == 1
    captured = capsys.readouterr()
    assert "cannot  verdict   asked to compare two answers, its reply has no verdict; expected [[A]]" in captured.out
    assert "It cannot judge here." in captured.out


def test_an_endpoint_that_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    page = (200, {}, b"<html>hello</html>")
    with serving(fault=lambda number: page) as server:
        found = examine(server.url)
        assert checks(found) == {"models": "yes", "chat": "no"}
        assert "HTML" in found.checks[-1].told
    with serving(fault=lambda number: (401, {}, json.dumps({"error": "who are you"}).encode())) as server:
        assert main(["doctor", server.url]) == 2
    assert "answers 401: who are you; the key in OPENAI_API_KEY" in capsys.readouterr().err
    assert main(["doctor", "127.0.0.1:80"]) == 2
    assert main(["doctor", "http://127.0.0.1:9/v1"]) == 1
    assert "cannot be reached" in capsys.readouterr().err

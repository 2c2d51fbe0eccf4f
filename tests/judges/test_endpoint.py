"""A judge behind a real HTTP server that answers well, badly, late, or not at all."""

from __future__ import annotations

import json
import socket
import threading
import time
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from judging_server import Answer, JudgingServer, serving

from align.errors import RunError, UserError
from align.judges.asking import ModelJudge
from align.judges.base import Order, Question
from align.judges.budget import Budget
from align.judges.named import JudgeSpec, Means, make_judge
from align.judges.replies import Replies
from align.judges.served import endpoint as endpoints

MODELS = ("a", "b")
ORDERS: tuple[Order, ...] = ("ab", "ba")
NEVER = [(401, "the key in OPENAI_API_KEY is not set"), (404, "is 'judge-1' served")]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoints, "BACK_OFF", 0.01)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def questions(count: int = 1) -> list[Question]:
    return [
        Question(item=f"q{i}", prompt=f"Question {i}?", models=MODELS, answers=("long answer", "short"), order=order)
        for i in range(count)
        for order in ORDERS
    ]


def judge_of(server: JudgingServer, means: Means | None = None, **details: Any) -> ModelJudge:
    spec = JudgeSpec(judge="http:judge-1", base_url=server.url, **{"timeout": 5.0, "retries": 2, **details})
    made = make_judge(spec, means)
    assert isinstance(made, ModelJudge)
    return made


def told(body: object, status: int = 200, **headers: str) -> Answer:
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    return status, {name.replace("_", "-"): value for name, value in headers.items()}, text


def test_both_orders_of_a_fair_judge() -> None:
    with serving() as server:
        verdicts = judge_of(server).judge(questions(3))
    assert [v.score for v in verdicts] == [1.0] * 6  # models[0] has the longer answer, whoever is shown first
    assert verdicts[0].raw.endswith("[[A]]")
    assert verdicts[1].raw.endswith("[[B]]")
    assert verdicts[0].columns["tokens"]["completion"] == 6  # The longer one is better. [[A]]
    assert len(server.bodies) == 6
    assert {body["temperature"] for body in server.bodies} == {0.0}


def test_a_judge_that_prefers_the_first() -> None:
    with serving(say=lambda prompt: "[[A]]") as server:
        assert [v.score for v in judge_of(server).judge(questions())] == [1.0, 0.0]


def test_five_levels_and_grades() -> None:
    with serving() as server:
        levels = judge_of(server, instructions="pairwise-levels").judge(questions())
        graded = judge_of(server, instructions="graded")
        one = Question(item="q", prompt="?", models=("a",), answers=("0123456789" * 4,))
        assert [(v.score, v.strong) for v in levels] == [(1.0, True)] * 2
        assert graded.judge([one])[0].score == 5.0


@pytest.mark.parametrize(
    ("wrong", "finding"),
    [
        (told({"error": {"message": "overloaded"}}, 500), "answers 500: overloaded (tried 3 times)"),
        (told(b"<html><body>Bad gateway</body></html>", 502), "answers 502: <html>"),
        (told(b"<html>Please log in</html>"), "with HTML: '<html>Please log in</html>'"),
        (told(b""), "answers with nothing"),
        (told(b'{"choices": [{"message": {"con'), "with no JSON, or half of one"),
        (told({"error": {"message": "slow down"}}, 429, retry_after="0.01"), "answers 429: slow down"),
    ],
)
def test_what_may_come_right_is_asked_again(wrong: Answer, finding: str) -> None:
    with serving(fault=lambda number: wrong if number < 3 else None) as server:
        assert judge_of(server).judge(questions()[:1])[0].score == 1.0
        assert len(server.bodies) == 3
    with serving(fault=lambda number: wrong) as server:
        (verdict,) = judge_of(server).judge(questions()[:1])
        assert verdict.score is None
        assert finding in verdict.why
        assert verdict.columns == {"again": True}
        assert len(server.bodies) == 3


@pytest.mark.parametrize(
    ("wrong", "finding"),
    [
        (told({"error": {"message": "prompt is too long"}}, 400), "answers 400: prompt is too long"),
        (told({"choices": []}), "answers without a choice"),
        (told([1, 2]), "with a list, expected an object"),
        (told({"detail": "moved"}, 307, location="http://127.0.0.1:1/"), "answers 307: moved"),
    ],
)
def test_what_stays_wrong_is_asked_once(wrong: Answer, finding: str) -> None:
    with serving(fault=lambda number: wrong) as server:
        (verdict,) = judge_of(server).judge(questions()[:1])
        assert verdict.score is None
        assert finding in verdict.why
        assert len(server.bodies) == 1


@pytest.mark.parametrize(("status", "finding"), NEVER)
def test_what_could_never_work_ends_it(status: int, finding: str) -> None:
    with serving(fault=lambda number: told({"error": {"message": "no"}}, status)) as server:
        with pytest.raises(UserError, match=finding):
            judge_of(server, concurrency=1).judge(questions(9))
        assert len(server.bodies) == 1


def test_an_endpoint_that_is_down_is_not_asked_for_ever() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/v1"
        spec = JudgeSpec(judge="http:m", base_url=url, retries=0, concurrency=2)
        with pytest.raises(RunError, match=r"6 requests in a row have failed, the last with: .*cannot be reached"):
            make_judge(spec).judge(questions(20))


def test_retry_after_is_heeded_by_all() -> None:
    def fault(number: int) -> Answer | None:
        return told({"error": "busy"}, 429, retry_after="1") if number == 1 else None

    with serving(fault=fault) as server:
        assert all(v.score == 1.0 for v in judge_of(server, concurrency=1).judge(questions(2)))
        assert server.times[1] - server.times[0] >= 1.0


def test_retry_after_that_is_too_long_gives_up() -> None:
    with serving(fault=lambda number: told({"error": "busy"}, 429, retry_after="86400")) as server:
        (verdict,) = judge_of(server).judge(questions()[:1])
        assert "it asks for 86400 seconds" in verdict.why
        assert len(server.bodies) == 1


def test_forms_of_retry_after() -> None:
    assert endpoints.retry_after("2.5") == 2.5
    assert endpoints.retry_after("-3") == 0.0
    assert endpoints.retry_after("soon") is None
    found = endpoints.retry_after(formatdate(time.time() + 60, usegmt=True))
    assert found is not None
    assert 55 < found <= 60


def test_a_late_answer_and_one_that_drips() -> None:
    with serving(delay=1.0) as server:
        (verdict,) = judge_of(server, timeout=0.2, retries=1).judge(questions()[:1])
        assert "no whole answer within 0.2 seconds (tried 2 times)" in verdict.why
    with socket.create_server(("127.0.0.1", 0)) as listener:
        def drip() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
                for _ in range(1200):  # each byte is in time, the whole is not
                    try:
                        connection.sendall(b" ")
                    except OSError:
                        return
                    time.sleep(0.05)

        thread = threading.Thread(target=drip, daemon=True)
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        made = make_judge(JudgeSpec(judge="http:m", base_url=url, timeout=0.3, retries=0))
        assert isinstance(made, ModelJudge)
        started = time.monotonic()
        vars(made.speaker)["weights"] = ""  # nobody lists models here
        (verdict,) = made.judge(questions()[:1])
        assert "no whole answer within 0.3 seconds" in verdict.why
        assert time.monotonic() - started < 30  # of the minute that it would take
        thread.join()


def test_concurrency_and_rate() -> None:
    with serving(delay=0.1) as server:
        judge_of(server, concurrency=4).judge(questions(6))
        assert server.most == 4
    with serving() as server:
        judge_of(server, per_minute=1200).judge(questions(4))  # one in 50 ms
        gaps = [b - a for a, b in zip(server.times, server.times[1:], strict=False)]
        assert sum(gaps) >= 0.9 * 7 * 0.05


def test_replies_without_text_or_usage_or_cut() -> None:
    def replies(text: str | None, stop: str, **more: object) -> Answer:
        return told({"choices": [{"message": {"content": text}, "finish_reason": stop}], "model": "judge-1", **more})

    for answer, why in (
        (replies(None, "content_filter"), "the reply is empty"),
        (replies("I think that", "length"), "was cut at its length limit before a verdict"),
    ):
        with serving(fault=lambda number, answer=answer: answer) as server:
            (verdict,) = judge_of(server).judge(questions()[:1])
            assert (verdict.score, verdict.why) == (None, why)
            assert "tokens" not in verdict.columns
            assert "again" not in verdict.columns  # it was paid, and would be the same again


def test_votes() -> None:
    said = iter(["[[A]]", "[[B]]", "[[A]]", "I cannot say", "no", "[[C]]"])
    with serving(say=lambda prompt: next(said)) as server:
        judge = judge_of(server, votes=3, temperature=1.0, concurrency=1)
        first, second = judge.judge(questions(1))
        assert (first.score, first.columns["votes"]) == (1.0, 3)
        assert json.loads(first.raw) == ["[[A]]", "[[B]]", "[[A]]"]
        assert second.score is None
        assert second.why.startswith("2 of 3 votes cannot be read: has no verdict")
        assert len({body["seed"] for body in server.bodies}) == 6
    with pytest.raises(UserError, match="3 votes at temperature 0 are one"):
        judge_of(server, votes=3)


def test_the_key_is_sent_and_written_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUDGE_KEY", "sk-secret-1")
    wrong = told({"error": {"message": "bad key"}}, 403)
    with serving(fault=lambda number: wrong if number == 2 else None) as server:
        judge = judge_of(server, Means(Replies(tmp_path)), key_env="JUDGE_KEY", concurrency=1)
        with pytest.raises(UserError) as error:
            judge.judge(questions(1))
        assert server.headers[0]["Authorization"] == "Bearer sk-secret-1"
    assert "is sent" in str(error.value)
    written = " ".join(path.read_text() for path in tmp_path.rglob("*.jsonl"))
    assert "[[A]]" in written
    assert "secret" not in written + str(error.value) + json.dumps(judge.identity()) + repr(judge.speaker)


@pytest.mark.parametrize("url", ["ftp://x", "127.0.0.1:80", "http://me:word@host/v1", "http://host/v1?key=1", ""])
def test_addresses_that_are_refused(url: str) -> None:
    with pytest.raises(UserError) as error:
        make_judge(JudgeSpec(judge="http:m", base_url=url))
    assert "word@" not in str(error.value)


def test_a_budget_of_calls_and_of_tokens(tmp_path: Path) -> None:
    with serving() as server:
        budget = Budget(calls=3)
        verdicts = judge_of(server, Means(Replies(tmp_path), budget)).judge(questions(4))
        assert len(server.bodies) == 3
        assert budget.out
        assert sum(v.score is not None for v in verdicts) == 3
        assert {v.why for v in verdicts if v.score is None} == {"not asked: the budget of 3 calls is spent"}
        verdicts = judge_of(server, Means(Replies(tmp_path), Budget(calls=9))).judge(questions(4))
        assert len(server.bodies) == 8  # what was replied is not asked again
        assert all(v.score == 1.0 for v in verdicts)
    with serving() as server:
        cost = judge_of(server, max_tokens=100).cost(questions(4))
        assert (cost.calls, cost.completion_tokens, cost.exact) == (8, 800, False)
        limit = cost.prompt_tokens // 8 + 100 + 200  # the most that one call may take, and what one or two really take
        judge = judge_of(server, Means(Replies(), Budget(tokens=limit)), max_tokens=100)
        judge.judge(questions(4))
        assert judge.budget.out
        assert judge.budget.spent_tokens <= limit
        assert 1 < len(server.bodies) < 8


def test_another_model_under_the_same_name_is_refused(tmp_path: Path) -> None:
    with serving() as server:
        judge_of(server, Means(Replies(tmp_path))).judge(questions(1))
        server.model = "judge-2"
        judge = judge_of(server, Means(Replies(tmp_path)), concurrency=1)
        with pytest.raises(RunError, match="were made by judge-1, and now by judge-2"):
            judge.judge(questions(2))
        renewed = judge_of(server, Means(Replies(tmp_path)), revision="2")
        assert [v.score for v in renewed.judge(questions(1))] == [1.0, 1.0]

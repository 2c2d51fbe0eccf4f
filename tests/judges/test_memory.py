"""Replies are remembered: through kills, for two processes, apart for other models, questions and draws."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from judging_server import JudgingServer, serving

from align.judges.asking import ModelJudge
from align.judges.base import Question
from align.judges.named import JudgeSpec, Means, make_judge
from align.judges.replies import Decoding, Replies, Reply, make_ask

PROGRAM = """
import json, sys
from pathlib import Path
from align.judges.base import Question
from align.judges.named import JudgeSpec, Means, make_judge
from align.judges.replies import Replies
url, folder, count = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
asked = [Question(item=f"q{i}", prompt=f"Question {i}?", models=("a", "b"), answers=("x" * i, "y" * 7), order=o)
         for i in range(count) for o in ("ab", "ba")]
judge = make_judge(JudgeSpec(judge="http:judge-1", base_url=url, concurrency=2), Means(Replies(folder)))
print(json.dumps([v.score for v in judge.judge(asked)]))
"""
COUNT = 15
RIGHT = [0.0 if i < 7 else 0.5 if i == 7 else 1.0 for i in range(COUNT) for _ in range(2)]  # the longer answer


def start(server: JudgingServer, folder: Path) -> subprocess.Popen[str]:
    words = [sys.executable, "-c", PROGRAM, server.url, str(folder), str(COUNT)]
    return subprocess.Popen(words, stdout=subprocess.PIPE, text=True)


def scores(process: subprocess.Popen[str]) -> list[float]:
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    return json.loads(out)


@pytest.fixture
def slow() -> Iterator[JudgingServer]:
    with serving(delay=0.05) as server:
        yield server


def test_a_kill_costs_what_was_under_way(slow: JudgingServer, tmp_path: Path) -> None:
    process = start(slow, tmp_path)
    while slow.served < 9:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    (file,) = tmp_path.glob("*.jsonl")
    file.write_bytes(file.read_bytes()[:-20])  # and the last line was torn
    assert scores(start(slow, tmp_path)) == RIGHT
    times = Counter(body["messages"][-1]["content"] for body in slow.bodies)
    assert len(times) == 2 * COUNT
    assert set(times.values()) == {1, 2}
    # two at a time were under way, and one line is torn; nothing that was kept is asked again
    assert 1 <= list(times.values()).count(2) <= 2 + 1
    asked = len(slow.bodies)
    assert scores(start(slow, tmp_path)) == RIGHT
    assert len(slow.bodies) == asked


def test_two_processes_share_one_memory(slow: JudgingServer, tmp_path: Path) -> None:
    both = [start(slow, tmp_path) for _ in range(2)]
    assert [scores(process) for process in both] == [RIGHT, RIGHT]
    assert slow.served == 2 * COUNT  # each question was paid for once
    assert not list(tmp_path.glob("claims/*"))


def question(**more: object) -> Question:
    told = {"item": "q", "prompt": "?", "models": ("a", "b"), "answers": ("xx", "y"), "order": "ab", **more}
    return Question(**told)  # type: ignore[arg-type]


def judged(server: JudgingServer, folder: Path, asked: Question, **details: object) -> None:
    spec = JudgeSpec(judge="http:judge-1", base_url=server.url, **details)  # type: ignore[arg-type]
    judge = make_judge(spec, Means(Replies(folder)))
    assert isinstance(judge, ModelJudge)
    assert judge.judge([asked])[0].score is not None


def test_what_a_reply_depends_on(tmp_path: Path) -> None:
    with serving() as server:
        judged(server, tmp_path, question())
        for same in (question(item="other"), question(models=("c", "d")), question(category="x")):
            judged(server, tmp_path, same)
        assert server.served == 1
        for other in (question(order="ba"), question(repeat=1), question(prompt="!"), question(answers=("xx", "z"))):
            judged(server, tmp_path, other)
        assert server.served == 5
        other_draws = ({"temperature": 0.5}, {"max_tokens": 99}, {"instructions": "pairwise-levels"}, {"revision": "2"})
        for details in other_draws:
            judged(server, tmp_path, question(), **details)
        assert server.served == 9
        judged(server, tmp_path, question())
        assert server.served == 9


def test_another_endpoint_or_model_is_another_judge(tmp_path: Path) -> None:
    with serving() as one, serving(model="judge-2") as two:
        judged(one, tmp_path, question())
        judged(two, tmp_path, question())  # of the same name, elsewhere
        assert (one.served, two.served) == (1, 1)
        spec = JudgeSpec(judge="http:judge-2", base_url=two.url)
        assert make_judge(spec, Means(Replies(tmp_path))).judge([question()])[0].score == 1.0
        assert two.served == 2


def test_damage_is_told_and_asked_again(tmp_path: Path) -> None:
    ask = make_ask("who", [{"role": "user", "content": "?"}], Decoding(), "ab", 0, 0)
    Replies(tmp_path).put(ask, Reply(text="[[A]]"))
    (file,) = tmp_path.glob("*.jsonl")
    file.write_bytes(b'{"key": 1}\nnonsense\n' + file.read_bytes() + b'{"key": "half')
    told: list[str] = []
    replies = Replies(tmp_path, told.append)
    assert replies.get(ask.key) == Reply(text="[[A]]")
    assert len(told) == 3
    assert "ends in the midst of a line" in told[-1]


def test_a_claim_ends_with_its_process(tmp_path: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path; from align.judges.replies import Replies;"
        "print(Replies(Path(sys.argv[1])).claim('k' * 64), flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stdout.readline() == "True\n"
    mine = Replies(tmp_path)
    assert not mine.claim("k" * 64)
    process.kill()
    process.communicate()
    assert mine.claim("k" * 64)
    assert not Replies(tmp_path).claim("k" * 64)
    mine.release("k" * 64)
    assert Replies(tmp_path).claim("k" * 64)

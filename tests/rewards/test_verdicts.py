"""Verdicts are numbers, None, or a mistake that is told: never a silent 0."""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import Any

import pytest

from align.errors import RunError, UserError
from align.rewards.base import Sample, find_reward
from align.rewards.settings import Function
from align.rewards.verdicts import LATE


def samples(*texts: str, **columns: Any) -> list[Sample]:
    return [Sample(prompt="Say it.", completion=text, completion_ids=[1], columns=columns) for text in texts]


def test_several_functions_with_weights(functions_of: Any):
    functions = functions_of("length", Function(name="reward_functions:raising", weight=-0.5))
    found = functions(samples("skip", "okay!"))
    assert [j.rewards for j in found] == [{"length": 4.0, "raising": None}, {"length": 5.0, "raising": 2.0}]
    assert [functions.total(j.rewards) for j in found] == [4.0, 4.0]
    assert functions.total({"length": None, "raising": None}) is None


def test_an_exception_that_takes_several_completions_blames_none(functions_of: Any):
    with pytest.raises(RunError, match=r"reward crowded: ValueError: two .*line \d+\); correct it"):
        functions_of("crowded")(samples("a", "b", "c", "d"))


@pytest.mark.parametrize("kind", ["array", "tensor", "list of both"])
def test_numbers_of_numpy_and_torch_are_numbers(kind: str, functions_of: Any):
    found = functions_of(Function(name="reward_functions:Lengths", settings={"kind": kind}))(samples("a", "bcd"))
    assert [j.rewards["Lengths"] for j in found] == [1.0, 3.0]


def test_async_functions_are_awaited(functions_of: Any):
    assert [j.rewards["patient"] for j in functions_of("patient")(samples("a", "bcd"))] == [1.0, 3.0]


def test_columns_of_the_data_are_passed_as_lists(functions_of: Any):
    assert [j.rewards["question"] for j in functions_of("question")(samples("a", "b", question=7))] == [7.0, 7.0]


@pytest.mark.parametrize("timeout", [0.0, 20.0], ids=["here", "in a worker"])
@pytest.mark.parametrize("on_error", ["stop", "mark"])
@pytest.mark.parametrize(
    ("function", "told"),
    [
        ("too_few", "returned [01] values for [12] completions"),
        ("text", "returned 'good' for the completion 'a'; expected a number or None"),
        ("nan", "returned nan for the completion 'a'; expected a finite number"),
        ("number", "returned float; expected a list with a number, or None, for each"),
    ],
)
def test_a_function_that_breaks_its_signature_stops_the_run(
    function: str, told: str, on_error: str, timeout: float, functions_of: Any
):
    with pytest.raises(RunError, match=f"reward .*{function}: {told}"):
        functions_of(function, on_error=on_error, timeout=timeout, num_workers=1)(samples("a", "b"))


def test_warming_up_takes_no_samples_time(functions_of: Any):
    found = functions_of("Heavy", timeout=1.0, num_workers=1)(samples("a", "b"))
    assert [j.rewards for j in found] == [{"Heavy": 1.0}] * 2


@pytest.mark.parametrize("timeout", [0.0, 20.0], ids=["here", "in a worker"])
def test_an_exception_stops_the_run_or_marks_the_sample(timeout: float, functions_of: Any):
    told = r"reward raising: KeyError: 'no such word' .*reward_functions.py, line \d+\), for the completion 'bad'; "
    with pytest.raises(RunError, match=told):
        functions_of("raising", timeout=timeout, num_workers=1)(samples("fine", "skip", "bad", "fine"))
    found = functions_of("raising", timeout=timeout, num_workers=1, on_error="mark")(samples("fine", "bad", "skip"))
    assert [j.rewards["raising"] for j in found] == [2.0, None, None]
    assert [list(j.failed) for j in found] == [[], ["raising"], []]
    assert "no such word" in found[1].failed["raising"]


def test_a_function_that_hangs_costs_its_sample_and_not_the_run(functions_of: Any):
    functions = functions_of("hanging", timeout=1.5, num_workers=2)
    functions(samples("warm", "up"))
    started = time.monotonic()
    found = functions(samples("a", "hang", "b", "hang", "c"))
    assert time.monotonic() - started < 60  # two limits and two new workers, where the function would sleep 20 minutes
    assert [j.rewards["hanging"] for j in found] == [1.0, None, 1.0, None, 1.0]
    assert found[1].failed == {"hanging": LATE}


def test_a_function_that_takes_its_process_along_is_marked(functions_of: Any):
    found = functions_of("dying", timeout=20.0, num_workers=1, on_error="mark")(samples("a", "die", "b"))
    assert [j.rewards["dying"] for j in found] == [1.0, None, 1.0]
    assert "ended while it judged" in found[1].failed["dying"]


def test_time_that_a_new_worker_takes_to_start_counts_against_no_other_sample(functions_of: Any):
    """Those beside the one that hangs take 0.3 of 1.5 seconds, and a new worker more than 2."""
    functions = functions_of(Function(name="slow_to_import:unhurried"), timeout=1.5, num_workers=2)
    found = functions(samples("hang", "a", "b", "c", "hang", "d"))
    assert [j.rewards["unhurried"] for j in found] == [None, 1.0, 1.0, 1.0, None, 1.0]


def test_workers_that_died_between_two_batches_are_replaced(functions_of: Any):
    functions = functions_of("length", timeout=20.0, num_workers=2)
    functions(samples("warm", "up"))
    for worker in functions.pools["length"].workers:
        worker.process.kill()
        worker.process.join()
    found = functions(samples("a", "bc", "def"))
    assert [j.rewards["length"] for j in found] == [1.0, 2.0, 3.0]


def test_a_worker_that_dies_with_its_sample_unread_is_its_death(functions_of: Any):
    functions = functions_of("length", timeout=20.0, num_workers=1, on_error="mark")
    functions(samples("warm"))
    process = functions.pools["length"].workers[0].process
    os.kill(process.pid, signal.SIGSTOP)
    killed = threading.Timer(0.2, process.kill)
    killed.start()
    found = functions(samples("a", "bc"))
    killed.join()
    assert [j.rewards["length"] for j in found] == [None, 2.0]
    assert "ended while it judged" in found[0].failed["length"]


def test_a_module_that_takes_its_process_along_is_told(functions_of: Any):
    functions = functions_of(Function(name="deadly_to_import:fine"), timeout=20.0, num_workers=1, on_error="mark")
    with pytest.raises(RunError, match="deadly_to_import:fine: its worker process ended while it imported"):
        functions(samples("a"))


@pytest.mark.parametrize(
    ("name", "settings", "told"),
    [
        ("lenth", {}, "no such reward: lenth; .* Did you mean length?"),
        ("nowhere:f", {}, "No module named 'nowhere'; write package.module:function"),
        ("reward_functions:lost", {}, "has no attribute 'lost'"),
        ("reward_functions:length", {"a": 1}, "is a function and takes no settings"),
        ("length", {"tarject": 3}, "no such setting: tarject; it has target, tolerance"),
        ("length", {}, "misses the setting target; write settings: {target: ...}"),
        ("contains", {}, "takes words, or the column that holds them"),
        ("answer_format", {"pattern": "("}, "missing \\)"),
    ],
)
def test_a_function_that_cannot_be_made_is_told(name: str, settings: dict[str, Any], told: str):
    with pytest.raises(UserError, match=told):
        find_reward(name, settings)

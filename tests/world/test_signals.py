"""SIGTERM and SIGINT end a run after its step; a second Ctrl-C at once."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from align.world import signals
from align.world.signals import StopRequest

LOOP = """
import signal, sys, time
from align.world import signals
from align.world.signals import StopRequest
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # which nohup has ignored
signals.AGAIN = 0.3
with StopRequest() as stop:
    print("ready", flush=True)
    for step in range(1000):
        time.sleep(0.02)
        if stop.asked and "stubborn" not in sys.argv:
            print(f"saved after {step} because of {stop.by}", flush=True)
            sys.exit(75)
"""


def start(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", LOOP, *arguments]
    place = Path(signals.__file__).parents[2]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=place)
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    return child


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_the_step_is_finished_first(number: signal.Signals):
    with start() as child:
        child.send_signal(number)
        out, err = child.communicate(timeout=60)
    assert child.returncode == 75
    assert out.endswith(f"because of {number.name}\n")
    assert f"{number.name}: stopping after this step" in err


def test_a_hangup_that_is_ignored_stays_ignored(monkeypatch: pytest.MonkeyPatch):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup has it
    try:
        with StopRequest() as stop:
            signal.raise_signal(signal.SIGHUP)
        assert not stop.asked
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_second_interrupt_stops_at_once_and_says_what_is_kept():
    with start("stubborn") as child:
        child.send_signal(signal.SIGINT)
        with pytest.raises(subprocess.TimeoutExpired):
            child.wait(0.5)
        child.send_signal(signal.SIGINT)
        _, err = child.communicate(timeout=60)
    assert child.returncode != 0
    assert "only kept up to the last checkpoint" in err
    assert "KeyboardInterrupt" in err


def test_an_interrupt_that_comes_twice_by_way_of_the_launcher_is_one():
    with StopRequest() as stop:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)
        assert stop.asked
        assert stop.by == "SIGINT"


class Interrupted(Exception):
    """By a handler of the test's own: the one that Python or the test runner has set may ignore the signal."""


def test_handlers_of_before_come_back():
    def interrupt(number: int, frame: object) -> None:
        raise Interrupted

    runners = signal.signal(signal.SIGINT, interrupt)
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    try:
        with contextlib.suppress(ValueError), StopRequest():
            assert signal.getsignal(signal.SIGTERM) != before[0]
            raise ValueError("an error in the loop")
        assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before
        with pytest.raises(Interrupted):
            signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, runners)


def test_outside_the_main_thread_it_can_only_be_asked():
    found = []

    def work() -> None:
        with StopRequest() as stop:
            stop.ask("test")
            found.append((stop.asked, stop.by))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [(True, "test")]

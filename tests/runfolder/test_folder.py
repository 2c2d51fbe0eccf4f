"""One live run per folder, nothing overwritten, no resume of another run; trackers and telemetry only when asked."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from align.errors import Mistakes, UserError
from align.monitors.trackers import KNOWN, check_trackers, open_trackers
from align.runfolder import environment, lock
from align.runfolder import folder as runfolder
from align.runfolder.folder import RunFolder, check_resume
from align.runfolder.lock import Lock

PLACE = Path(runfolder.__file__).parents[2]

HOLDER = """
import os, sys, time
from pathlib import Path
from align.runfolder.lock import Lock
lock = Lock(Path(sys.argv[1]))
if "plain" in sys.argv:
    lock._create()
else:
    lock.take()
if "fork" in sys.argv and os.fork() == 0:
    print("ready", os.getpid(), flush=True)
    time.sleep(60)
    os._exit(0)
if "fork" not in sys.argv:
    print("ready", os.getpid(), flush=True)
time.sleep(60)
"""


def hold(path: Path, *how: str) -> tuple[subprocess.Popen[str], int]:
    """A process that holds the lock, and the pid of it or of its child."""
    command = [sys.executable, "-c", HOLDER, str(path), *how]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=PLACE)
    assert child.stdout is not None
    word, pid = child.stdout.readline().split()
    assert word == "ready"
    return child, int(pid)


def end(child: subprocess.Popen[str]) -> None:
    child.kill()
    child.wait()
    assert child.stdout is not None
    child.stdout.close()


# ---- the lock -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [[], ["plain"]], ids=["flock", "file"])
def test_a_live_run_is_named_and_a_dead_one_taken_over(tmp_path: Path, how: list[str], monkeypatch: pytest.MonkeyPatch):
    if how:
        monkeypatch.setattr(lock, "fcntl", None)  # as on a system without it
    path = tmp_path / ".lock"
    child, pid = hold(path, *how)
    second = Lock(path)
    with pytest.raises(UserError, match=rf"in use by a live run: process {pid} on {socket.gethostname()} since 20"):
        second.take()
    end(child)
    second.take()
    with pytest.raises(UserError, match=f"process {os.getpid()} "):
        Lock(path).take()
    second.release()
    third = Lock(path)
    third.take()
    third.release()


def test_a_forked_child_that_outlives_its_parent_does_not_hold_the_lock(tmp_path: Path):
    child, orphan = hold(tmp_path / ".lock", "fork")
    with pytest.raises(UserError, match=f"process {child.pid} "):
        Lock(tmp_path / ".lock").take()
    end(child)
    ours = Lock(tmp_path / ".lock")
    ours.take()
    ours.release()
    os.kill(orphan, signal.SIGKILL)


def test_where_there_is_no_flock_a_file_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def none_here(handle: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(lock.fcntl, "flock", none_here)
    first = Lock(tmp_path / ".lock")
    first.take()
    with pytest.raises(UserError, match=f"process {os.getpid()}"):
        Lock(tmp_path / ".lock").take()
    first.release()
    assert not (tmp_path / ".lock").exists()


def test_a_note_is_judged_by_host_process_and_its_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(lock, "fcntl", None)
    path, own = tmp_path / ".lock", json.loads(lock._own_note())
    path.write_text(json.dumps(own | {"host": "elsewhere"}))
    with pytest.raises(UserError, match=r"on elsewhere since .* if that machine is gone for certain, remove .*\.lock"):
        Lock(path).take()
    for dead in (json.dumps(own | {"started": "1"}), ""):  # the pid is another process's now; killed before its note
        path.write_text(dead)
        ours = Lock(path)
        ours.take()
        ours.release()


# ---- the folder -----------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def released(folder: RunFolder) -> Iterator[RunFolder]:
    """The folder, given back in the end."""
    try:
        yield folder
    finally:
        folder.release()


def test_a_used_folder_wants_resume(tmp_path: Path):
    with released(RunFolder(tmp_path / "runs/a")) as run:
        run.take(resume=False)
        run.write_recipe("method: {name: dpo}\n")
        with released(RunFolder(tmp_path / "runs/a")) as other, pytest.raises(UserError, match="in use by a live run"):
            other.take(resume=True)
    with released(RunFolder(tmp_path / "runs/a")) as run:
        with pytest.raises(UserError, match=r"holds a run already, and nothing is overwritten.*--resume"):
            run.take(resume=False)
        assert run.recipe.read_text() == "method: {name: dpo}\n"
        run.take(resume=True)


def test_an_empty_folder_with_a_schedulers_logs_is_new(tmp_path: Path):
    (tmp_path / "logs").mkdir()
    with released(RunFolder(tmp_path)) as run:
        run.take(resume=False)
    with released(RunFolder(tmp_path)) as run:  # the first one ended before it wrote anything
        run.take(resume=False)


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match=r"training.output_dir: .*file/run: cannot be written"):
        RunFolder(tmp_path / "file/run").take(resume=False)


def test_environment_names_no_folder_and_tells_what_changed(tmp_path: Path):
    now = environment.environment(world_size=2, sharding="zero2", data="d1", weights="w1", commits={})
    text = json.dumps(now)
    assert str(Path.home()) not in text
    assert str(PLACE) not in text
    assert now["packages"]["torch"].split("+")[0].count(".") == 2
    with released(RunFolder(tmp_path)) as run:
        run.take(resume=False)
        assert run.write_environment(now) == []
        assert json.loads(run.environment.read_text()) == now
        later = now | {"threads": 7, "packages": now["packages"] | {"torch": "9.0"}}
        told = run.write_environment(later)
    assert told == [f"threads: was {now['threads']}, is 7", f"torch: was {now['packages']['torch']}, is 9.0"]


def test_git_commit_of_a_working_folder(tmp_path: Path):
    assert environment.git_commit(tmp_path) is None
    git = ["git", "-c", "user.name=n", "-c", "user.email=e@example.org", "-C", str(tmp_path)]
    (tmp_path / "a").write_text("1")
    for command in (["init", "-q"], ["add", "a"], ["commit", "-q", "-m", "m"]):
        subprocess.run([*git, *command], check=True)
    clean = environment.git_commit(tmp_path)
    assert clean is not None
    assert len(clean) == 40
    (tmp_path / "a").write_text("2")
    assert environment.git_commit(tmp_path) == f"{clean}+changes"


# ---- resume ---------------------------------------------------------------------------------------------------------

SAVED = {
    "recipe": {
        "name": "dpo",
        "method": {"name": "dpo", "beta": 0.1},
        "training": {"max_steps": 10, "save_steps": 5, "output_dir": "runs/a"},
        "logging": {"report_to": []},
        "data": {"columns": {}, "train": ("a", "b")},
    },
    "data": "abc",
    "weights": "def",
    "world_size": 2,
    "sharding": "zero2",
}


def changed(**parts: object) -> dict[str, object]:
    now = json.loads(json.dumps(SAVED))
    for key, value in parts.items():
        *sections, last = key.split("__")
        place = now
        for section in sections:
            place = place[section]
        place[last] = value
    return now


def test_the_same_run_may_go_on():
    assert check_resume(SAVED, json.loads(json.dumps(SAVED))) == []
    free = {"recipe__training__save_steps": 1, "recipe__training__output_dir": "b"}
    assert check_resume(SAVED, changed(**free, recipe__logging__report_to=["wandb"])) == []


def test_every_difference_is_named_with_its_cure():
    now = changed(recipe__method__beta=0.2, data="xyz", world_size=4, recipe__data__columns={"prompt": "q"})
    with pytest.raises(Mistakes) as caught:
        check_resume(SAVED, now)
    text = caught.value.messages
    assert len(text) == 5  # columns: {} became columns.prompt
    beta = next(t for t in text if "method.beta: the saved run has 0.1, this one 0.2" in t)
    assert beta.endswith("--allow-changes method.beta")
    assert any("data: the saved run has 'abc', this one 'xyz'" in t for t in text)
    assert any("world_size: the saved run has 2, this one 4" in t for t in text)
    assert any("data.columns.prompt: the saved run has none, this one 'q'" in t for t in text)


def test_what_is_allowed_is_told_and_the_rest_refused():
    now = changed(recipe__method__beta=0.2, recipe__training__max_steps=20, world_size=4)
    told = check_resume(SAVED, now, ["method", "training.max_steps", "world_size"])
    assert [t.split(":")[0] for t in told] == ["method.beta", "training.max_steps", "world_size"]
    assert len(check_resume(SAVED, now, ["all"])) == 3
    with pytest.raises(Mistakes, match=r"^resume: world_size") as caught:
        check_resume(SAVED, now, ["method", "training.max_steps"])
    assert len(caught.value.messages) == 1


# ---- trackers -------------------------------------------------------------------------------------------------------


def test_nothing_is_imported_unless_asked():
    script = f"""
import sys
from pathlib import Path
from align.monitors.trackers import open_trackers
assert open_trackers([], Path("."), {{}}) == []
print(sorted({set(KNOWN)!r} & set(sys.modules)))
"""
    assert subprocess.check_output([sys.executable, "-c", script], text=True, cwd=PLACE) == "[]\n"


def test_unknown_trackers_are_reported_together(tmp_path: Path):
    with pytest.raises(Mistakes) as caught:
        open_trackers(["tensorbord", "mlflow"], tmp_path, {})
    first, second = caught.value.messages
    assert first.endswith("Did you mean tensorboard?")
    assert "logging.report_to: mlflow: no such tracker" in second
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", KNOWN)
def test_a_tracker_writes_or_its_package_is_named(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    missing = check_trackers([name])
    if missing:
        assert "pip install 'align-hub[tracking]'" in missing[0]
        with pytest.raises(Mistakes, match=f"report_to: {name}: "):
            open_trackers([name], tmp_path, {})
        return
    (tracker,) = open_trackers([name], tmp_path, {"method.beta": 0.1})
    tracker.log(1, {"loss": 0.5, "num_tokens": 10})
    tracker.close()
    assert any(p.is_file() and p.stat().st_size > 0 for p in tmp_path.rglob("*") if not p.name.startswith("."))


def test_telemetry_is_off_before_the_hub_client_reads_it_and_the_users_word_stays():
    script = """
import os
os.environ["WANDB_ERROR_REPORTING"] = "true"
from align.monitors.trackers import no_telemetry
no_telemetry()
from huggingface_hub import constants
print(constants.HF_HUB_DISABLE_TELEMETRY, os.environ["WANDB_ERROR_REPORTING"])
"""
    bare = {k: v for k, v in os.environ.items() if k not in ("HF_HUB_DISABLE_TELEMETRY", "DO_NOT_TRACK")}
    out = subprocess.check_output([sys.executable, "-c", script], text=True, cwd=PLACE, env=bare)
    assert out == "True true\n"

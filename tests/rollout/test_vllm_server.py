"""A server that a run starts: where it listens, what it is told, and that it ends with the run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rollout.fake_vllm import COMMAND, settings

from align.errors import RunError
from align.rollout.vllm.client import ServerError
from align.rollout.vllm.server import Process, start, surroundings


def gone(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "Z"


def test_a_server_is_started_and_ended(tmp_path: Path):
    server = start(settings(), COMMAND, tmp_path, ("--dtype", "float32"), tmp_path / "server" / "vllm.log").up()
    assert isinstance(server.process, Process)
    assert server.client.get("/health") == {}
    server.close()
    assert gone(server.process.child.pid)
    with pytest.raises(
        ServerError, match=r"ended by signal SIGTERM, and below is the end of .*vllm.log\na line of the log"
    ):
        server.client.get("/health")


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_it_listens_where_vllm_host_says_whatever_the_arguments_are(tmp_path: Path, host: str):
    given = {"vllm_arguments": ["--host", "1.2.3.4", "--port", "1"], "vllm_host": host}
    server = start(settings(**given), COMMAND, tmp_path, (), tmp_path / "vllm.log").up()
    assert isinstance(server.process, Process)
    words = Path(f"/proc/{server.process.child.pid}/cmdline").read_bytes().decode().split("\0")
    server.close()
    assert words[-5:-2] == ["--host", host, "--port"]
    assert server.client.url.startswith("http://127.0.0.1:")


@pytest.mark.parametrize(
    ("word", "told"),
    [("--die", r"ended with exit code 1, .*\na line of the log\nno memory"), ("--deaf", "not up within 1.5 seconds")],
)
def test_one_that_does_not_come_up_is_told_with_the_end_of_its_log(word: str, told: str, tmp_path: Path):
    with pytest.raises(RunError, match=told):
        start(
            settings(vllm_arguments=[word], vllm_server_timeout=1.5), COMMAND, tmp_path, (), tmp_path / "vllm.log"
        ).up()


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel of Linux alone tells a child of its parent's death")
def test_a_server_does_not_outlive_a_trainer_that_is_killed(tmp_path: Path):
    script = (
        "import sys\nfrom pathlib import Path\nfrom align.rollout.settings import RolloutSection\n"
        "from align.rollout.vllm.server import start\n"
        f"folder, settings = Path({str(tmp_path)!r}), RolloutSection()\n"
        f"server = start(settings, {COMMAND!r}, folder, (), folder / 'log').up()\n"
        "print(server.process.child.pid, flush=True)\nsys.stdin.read()\n"
    )
    trainer = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert trainer.stdout is not None
    assert trainer.stdin is not None
    pid = int(trainer.stdout.readline())
    assert not gone(pid)
    os.kill(trainer.pid, signal.SIGKILL)
    trainer.wait()
    trainer.stdout.close()
    trainer.stdin.close()
    limit = time.monotonic() + 60
    while not gone(pid):
        assert time.monotonic() < limit, "the server lives on"
        time.sleep(0.05)


def test_a_server_is_told_nothing_of_the_trainers_launch():
    given = {"RANK": "1", "MASTER_PORT": "29500", "TORCHELASTIC_RUN_ID": "x", "PATH": "/bin", "HF_HOME": "/hub"}
    found = surroundings(given)
    assert found.keys() & given.keys() == {"PATH", "HF_HOME"}
    assert (found["VLLM_NO_USAGE_STATS"], found["DO_NOT_TRACK"], found["VLLM_SERVER_DEV_MODE"]) == ("1", "1", "1")

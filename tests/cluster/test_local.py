"""Two ranks on this machine, started by `align launch local`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from launches import environment, launcher
from small_runs import lines, same, weights

from align.cli.main import main
from align.cluster import local

pytestmark = pytest.mark.processes
STEPS = 6
RUN = (
    "data.num_rows=60", "training.num_train_epochs=null", "data.validation=0", "data.test=0", "training.eval_steps=0",
    "training.batch_size=4", f"training.max_steps={STEPS}", "training.save_steps=1", "logging.num_completions=0",
)  # fmt: skip


def started(out: Path, *words: str) -> subprocess.Popen[str]:
    """The command, in a process of its own; `out` is not there before."""
    command = [sys.executable, "-m", "align", "launch", "local", "dpo", *RUN, f"training.output_dir={out}", *words]
    env = environment(ACCELERATE_MIXED_PRECISION="fp8")  # left over from another launcher: no rank may see it
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def reached(out: Path, step: int, limit: float = 180.0) -> None:
    end = time.monotonic() + limit
    while not (out / f"checkpoints/step-{step:06d}").exists():
        assert time.monotonic() < end, f"{out} has no checkpoint of step {step}"
        time.sleep(0.01)


def ranks_of(parent: int) -> dict[str, int]:
    """Rank -> process, of those that this launcher has started."""
    found: dict[str, int] = {}
    for number in Path(f"/proc/{parent}/task/{parent}/children").read_text().split():
        told = dict(word.partition("=")[::2] for word in Path(f"/proc/{number}/environ").read_text().split("\0"))
        found[told["RANK"]] = int(number)
    return found


@pytest.fixture(scope="module")
def by_accelerate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("accelerate") / "run"
    words, env = launcher("ddp")
    words += ["-m", "align", "train", "dpo", *RUN, f"training.output_dir={out}"]
    subprocess.run(words, env=env, check=True, capture_output=True, timeout=600)
    return out


def test_a_killed_rank_ends_the_others_and_the_run_goes_on_as_under_accelerate(by_accelerate: Path, tmp_path: Path):
    out = tmp_path / "run"
    process = started(out, "--processes", "2")
    reached(out, 2)
    os.kill(ranks_of(process.pid)["1"], signal.SIGKILL)
    said = process.communicate(timeout=300)[0]
    assert process.returncode == 1, said
    assert "align: rank 1 was ended by SIGKILL; the others end, too. Go on with --resume" in said
    assert "Exception raised from" not in said  # torch's frames of C++
    allowed = ("--allow-changes", "training.head_chunk", "--allow-changes", "world_size")
    again = started(out, "--processes", "2", "--resume", "training.head_chunk=100000", *allowed)
    said = again.communicate(timeout=300)[0]
    assert again.returncode == 0, said
    assert "allowed: training.head_chunk: " in said
    assert same(weights(out), weights(by_accelerate))


def test_ctrl_c_stops_all_ranks_after_the_step_and_saves(tmp_path: Path):
    out = tmp_path / "run"
    process = started(out, "--processes=2", "training.save_steps=100", "training.max_steps=10000")
    end = time.monotonic() + 180
    while not (out / "metrics.jsonl").exists() or not (out / "metrics.jsonl").stat().st_size:
        assert time.monotonic() < end, "no step was made"
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=300)[0]
    assert process.returncode == 75, said
    assert said.count("SIGINT: stopping after this step, state will be saved") == 2, "once for each rank"
    done = lines(out / "metrics.jsonl")[-1]["step"]
    assert (out / f"checkpoints/step-{done:06d}/manifest.json").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--process", "2"), "--process: no such option; there are --processes, --sharding, --offload, --resume, "),
        (("--allow-changes", "optim"), "--allow-changes belongs to --resume"),
        (("--processes", "two"), "--processes: Input should be a valid integer"),
        (("--processes", "-1"), "--processes: -1 must be 0 (as many as there are GPUs) or more"),
        (("--sharding", "zero4"), "--sharding: zero4 is none of ddp, zero1"),
        (("--offload", "nvme", "--sharding", "zero2"), "--offload: what lies on NVMe would be in no checkpoint"),
        (("--sharding", "fsdp2", "optim.optim=Adafactor"), "with fsdp2 take AdamW, or zero2"),
        (("method.bta=1",), "method.bta: no such key"),
    ],
)
def test_what_is_wrong_is_told_once_before_a_rank_begins(
    words: tuple[str, ...], told: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(local, "launch", lambda *given: pytest.fail("ranks were started"))
    assert main(["launch", "local", "dpo", *words]) == 2
    assert told in capsys.readouterr().err


def test_more_ranks_than_gpus_are_refused():
    with pytest.raises(ValueError, match="16 ranks, and there are 8 GPUs; one is needed for each"):
        local.LocalRun(processes=16).ranks(8)
    assert local.LocalRun().ranks(8) == 8
    assert local.LocalRun(processes=3).ranks(0) == 3

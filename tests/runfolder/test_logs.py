"""Logs that a kill can neither tear nor double."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from align.errors import RunError, UserError
from align.runfolder import logs as metrics
from align.runfolder.logs import Completion, CompletionsLog, MetricsLog, peak_memory_mb, read_log

PLACE = Path(metrics.__file__).parents[2]


def sample(step: int, text: str = "yes") -> Completion:
    return Completion(
        step=step,
        policy_version=step,
        prompt="Do you?",
        text=text,
        prompt_length=3,
        completion_length=1,
        stop_reason="EOS",
        rewards={"math": 1.0, "judge": None},
    )


def test_a_step_is_a_line_of_numbers_with_its_evaluation(tmp_path: Path):
    log = MetricsLog(tmp_path / "metrics.jsonl")
    log.append(1, {"loss": 0.1 + 0.2, "num_tokens": np.int64(7)})
    log.append(2, {"loss": np.float32(0.5), "eval/loss": 1e-300})
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()  # there before close
    assert [json.loads(x) for x in lines] == [
        {"step": 1, "loss": 0.1 + 0.2, "num_tokens": 7},
        {"step": 2, "loss": 0.5, "eval/loss": 1e-300},
    ]
    log.close()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), np.float32("nan")])
def test_not_finite_is_refused_by_key(tmp_path: Path, value: float):
    told = pytest.raises(RunError, match=r"metrics.jsonl: step 3: margin is -?(nan|inf)")
    with closing(MetricsLog(tmp_path / "metrics.jsonl")) as log, told:
        log.append(3, {"loss": 1.0, "margin": value})
    bad = dataclasses.replace(sample(1), rewards={"math": float("nan")})
    with closing(CompletionsLog(tmp_path / "c.jsonl")) as log, pytest.raises(RunError, match=r"rewards.math is nan"):
        log.append([bad])
    assert list(read_log(tmp_path / "metrics.jsonl")) == [{"step": 3, "loss": 1.0}], "a step has its line"


def test_a_step_is_written_once(tmp_path: Path):
    log = MetricsLog(tmp_path / "metrics.jsonl")
    log.append(5, {"loss": 1.0})
    with pytest.raises(AssertionError, match="step 5 after step 5"):
        log.append(5, {"loss": 1.0})
    log.close()
    with (
        closing(MetricsLog(tmp_path / "metrics.jsonl")) as again,
        pytest.raises(AssertionError, match="step 4 after step 5"),
    ):
        again.append(4, {"loss": 1.0})


@pytest.mark.parametrize("seed", range(8))
def test_cut_anywhere_and_resumed_it_is_as_if_never_cut(tmp_path: Path, seed: int):
    path, draw = tmp_path / "metrics.jsonl", random.Random(seed)
    rows = {s: {"loss": draw.random(), **({"eval/loss": draw.random()} if s % 5 == 0 else {})} for s in range(1, 21)}
    log = MetricsLog(path)
    for step, row in rows.items():
        log.append(step, row)
    log.close()
    whole = path.read_bytes()
    os.truncate(path, draw.randrange(len(whole)))
    saved = draw.randint(0, len(list(read_log(path))))  # a checkpoint is never ahead of the log
    log = MetricsLog(path)
    assert log.truncate_after(saved) == []
    for step in range(saved + 1, 21):
        log.append(step, rows[step])
    log.close()
    assert path.read_bytes() == whole


def test_lost_and_doubled_steps_are_told_and_mended(tmp_path: Path):
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(json.dumps({"step": s, "loss": n}) + "\n" for n, s in enumerate([1, 2, 2, 4, 5])))
    log = MetricsLog(path)
    assert log.truncate_after(5) == [3]
    log.close()
    assert [(r["step"], r["loss"]) for r in read_log(path)] == [(1, 0), (2, 2), (4, 3), (5, 4)]


def test_damage_in_the_middle_is_named_by_its_line(tmp_path: Path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"st\n{"step": 3}\n')
    with pytest.raises(UserError, match=r"metrics.jsonl:2: is no JSON object"):
        MetricsLog(path)
    path.write_text('{"step": 1}\n{"stop": 2}\n{"step": 3}\n')
    with pytest.raises(UserError, match=r"metrics.jsonl:2: not a line of this log"):
        MetricsLog(path)


def test_completions_keep_any_text_on_one_line(tmp_path: Path):
    path = tmp_path / "completions.jsonl"
    texts = ["a\nb\r\n\u2028c", 'quote " \\', "\x00\x1b[31m", "日本 🙂", "half a pair \ud83d"]
    log = CompletionsLog(path)
    log.append([sample(0, t) for t in texts])
    log.append([sample(1), sample(2)])
    assert [r["text"] for r in read_log(path)][: len(texts)] == texts
    log.truncate_after(1)
    log.append([sample(2, "again")])
    log.close()
    found = [(r["step"], r["text"]) for r in read_log(path)]
    assert found == [*((0, t) for t in texts), (1, "yes"), (2, "again")]
    assert next(read_log(path))["rewards"] == {"math": 1.0, "judge": None}


def test_lines_survive_kill_9(tmp_path: Path):
    path = tmp_path / "metrics.jsonl"
    script = f"""
import os, signal
from pathlib import Path
from align.runfolder.logs import MetricsLog
log = MetricsLog(Path({str(path)!r}))
for step in range(1, 8):
    log.append(step, {{"loss": 1.0}})
os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", script], check=False, cwd=PLACE).returncode == -signal.SIGKILL
    assert [r["step"] for r in read_log(path)] == list(range(1, 8))


def test_full_disk_names_the_log(tmp_path: Path):
    script = f"""
import resource
from pathlib import Path
from align.errors import RunError, UserError
from align.runfolder.logs import MetricsLog
log = MetricsLog(Path({str(tmp_path / "metrics.jsonl")!r}))
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
try:
    for step in range(1, 8):
        log.append(step, {{"loss": 1.0}})
except RunError as error:
    print(step, error)
log.close()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=PLACE)
    step = int(done.stdout.split()[0])
    assert "metrics.jsonl: cannot be written" in done.stdout
    log = MetricsLog(tmp_path / "metrics.jsonl")
    assert log.last_step == step - 1, "what was written before is whole"
    log.append(step, {"loss": 1.0})
    log.close()


def test_peak_memory_sees_what_was_held_and_let_go():
    script = """
from align.runfolder.logs import peak_memory_mb
before = peak_memory_mb()
held = b"x" * (200 * 2**20)
del held
print(before, peak_memory_mb())
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=PLACE)
    before, after = map(float, done.stdout.split())
    assert before > 20
    assert 190 < after - before < 230
    assert peak_memory_mb() > 20

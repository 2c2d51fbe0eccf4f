"""Whole runs that write with a real vLLM: what they learn, how they end when it is killed, and how they go on."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from launches import REPOSITORY, environment, launcher
from small_runs import lines, run, write_recipe
from with_vllm.conftest import COMMAND, EAGER

from align.cli.main import main
from align.rollout.vllm.client import Client
from align.rollout.vllm.server import Server

ROUNDING = 1e-4  # mean difference of sampler and trainer; measured about 1e-6
REWARD = """
def vowels(prompts, completions, **columns):
    return [sum(c in "aeiou" for c in text) / max(len(text), 1) for text in completions]

def pieces(text):
    return [*range(0, len(text), 16), len(text)]
"""
PATIENCE = 180.0  # seconds
STEPS, PROMPTS, GENERATIONS = 6, 4, 4


def recipe_of(wide: Path, **more: Any) -> dict[str, Any]:
    rollout = {
        "engine": "vllm", "temperature": 0.9, "num_generations": GENERATIONS, "max_completion_length": 20,
        "record": True, "vllm_request_timeout": 60.0, **more.pop("rollout", {}),
    }  # fmt: skip
    training = {"batch_size": PROMPTS, "max_steps": STEPS, "save_steps": 0, "eval_steps": 0, **more.pop("training", {})}
    return {
        "method": {"name": "rloo"},
        "model": {"model_name_or_path": str(wide), **more.pop("model", {})},
        "data": {"train": "asset:story_openings/train.jsonl", "num_rows": 80, "max_length": 64},
        "rollout": rollout,
        "reward": {"functions": ["vowel_reward:vowels"]},
        "optim": {"learning_rate": 1e-3, "lr_scheduler_type": "constant"},
        "training": training,
        "logging": {"num_completions": 0},
    }


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A working folder with the reward's file."""
    monkeypatch.chdir(tmp_path)
    Path("vowel_reward.py").write_text(REWARD)


def assert_whole(out: Path, num_steps: int) -> None:
    """Every step once, every prompt once, every completion by the weights of its own step."""
    metrics = lines(out / "metrics.jsonl")
    assert [line["step"] for line in metrics] == list(range(1, num_steps + 1))
    assert max(line["sampler_gap"] for line in metrics) < ROUNDING
    for step in range(num_steps):
        written = lines(out / "rollouts" / f"{step:06d}.jsonl")
        assert {t["version"] for t in written} == {step}
        expected = [(step * PROMPTS + i, k) for i in range(PROMPTS) for k in range(GENERATIONS)]
        assert sorted((t["number"], t["place"]) for t in written) == expected


def family(pid: int) -> list[int]:
    """A process's children, theirs, and so on."""
    try:
        direct = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [p for child in map(int, direct) for p in (child, *family(child))]


def begin(recipe: Path, out: Path, log: Path, *words: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "align", "train", str(recipe), f"training.output_dir={out}", *words]
    with log.open("ab") as told:
        return subprocess.Popen(command, stdout=told, stderr=told, env=environment(PYTHONPATH=str(REPOSITORY)))


def lives(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


def wait_for(trainer: subprocess.Popen[bytes], log: Path, reached: Callable[[], bool]) -> None:
    limit = time.monotonic() + PATIENCE
    while not reached():
        assert trainer.poll() is None, log.read_text()
        assert time.monotonic() < limit, log.read_text()
        time.sleep(0.05)


def serving(trainer: int) -> list[int]:
    """The servers that it has started, in their order: its children that are told a port."""
    children = map(int, Path(f"/proc/{trainer}/task/{trainer}/children").read_text().split())
    return [pid for pid in children if "--port" in words_of(pid)]


def words_of(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")


def num_running(server: int) -> float:
    """Requests that it works on now."""
    words = words_of(server)
    told = Client(f"http://127.0.0.1:{words[words.index('--port') + 1]}").text("/metrics")
    return sum(float(n) for n in re.findall(r"(?m)^vllm:num_requests_running\S* (\S+)$", told))


def test_a_killed_server_stops_the_run_and_another_one_goes_on_with_it(wide: Path, server: Server, tmp_path: Path):
    rollout = {"vllm_command": COMMAND, "vllm_arguments": [EAGER], "max_completion_length": 60}
    recipe, out = write_recipe(tmp_path / "killed.yaml", recipe_of(wide, rollout=rollout)), tmp_path / "killed"
    log, metrics = tmp_path / "log", out / "metrics.jsonl"
    trainer = begin(recipe, out, log)
    wait_for(trainer, log, lambda: metrics.exists() and len(lines(metrics)) >= 2)
    (first,), started = serving(trainer.pid), family(trainer.pid)
    wait_for(trainer, log, lambda: num_running(first) > 2)
    os.kill(first, signal.SIGKILL)
    assert trainer.wait(PATIENCE) == 1
    told = log.read_text()
    print(told[told.find("align:") :][:1500])
    assert "the server that this run started ended by signal SIGKILL" in told
    assert "go on with --resume" in told
    assert "Traceback" not in told.partition("below is the end")[0]
    done = len(lines(metrics))
    assert 2 <= done < STEPS
    assert (out / "checkpoints" / f"step-{done:06d}").is_dir()
    assert not [pid for pid in started if lives(pid)]
    joined = (f"rollout.vllm_server_base_url={server.client.url}", "rollout.vllm_arguments=[]")
    assert begin(recipe, out, log, "--resume", *joined).wait(PATIENCE) == 0, log.read_text()[-3000:]
    assert_whole(out, STEPS)


def test_one_of_two_servers_that_is_killed_costs_no_completion(wide: Path, tmp_path: Path):
    """Its requests are asked of the other; with the next weights it is there again."""
    rollout = {"vllm_command": [COMMAND, COMMAND], "vllm_arguments": [EAGER], "max_completion_length": 60}
    recipe, out = write_recipe(tmp_path / "two.yaml", recipe_of(wide, rollout=rollout)), tmp_path / "two"
    log, metrics = tmp_path / "log", out / "metrics.jsonl"
    trainer = begin(recipe, out, log)
    wait_for(trainer, log, lambda: metrics.exists() and len(lines(metrics)) >= 2)
    first, second = serving(trainer.pid)
    wait_for(trainer, log, lambda: num_running(first) > 2)
    os.kill(first, signal.SIGKILL)
    assert trainer.wait(PATIENCE) == 0, log.read_text()[-3000:]
    assert_whole(out, STEPS)
    assert not lives(second)
    told = log.read_text()
    assert "ended by signal SIGKILL" in told
    assert "its requests are asked of the other servers" in told
    assert (out / "server/vllm-1.log").read_text().count("Application startup complete") == 2


def test_a_run_learns_from_what_a_server_writes(wide: Path, server: Server, tmp_path: Path):
    steps = 8
    recipe = recipe_of(wide, rollout={"vllm_server_base_url": server.client.url}, training={"max_steps": steps})
    recipe["method"]["kl_coef"], recipe["optim"]["learning_rate"] = 0.0, 4e-3
    out = run(tmp_path / "learns", recipe)
    assert_whole(out, steps)
    rewards = [line["reward"] for line in lines(out / "metrics.jsonl")]
    print("rewards", [round(r, 3) for r in rewards])
    assert sum(rewards[-3:]) / 3 > sum(rewards[:3]) / 3 + 0.1  # of 0.3


def test_restarts_find_their_beginnings_in_the_servers_cache(wide: Path, server: Server, tmp_path: Path):
    """Completions go on from prompts and from the middles of others; their log-probabilities are the policy's."""
    recipe = recipe_of(wide, rollout={"vllm_server_base_url": server.client.url, "steps": "vowel_reward:pieces"})
    recipe["method"] = {"name": "vineppo", "num_restarts": 3, "kl_coef": 0.0}
    out = run(tmp_path / "restarts", recipe)
    metrics = lines(out / "metrics.jsonl")
    assert [line["step"] for line in metrics] == list(range(1, STEPS + 1))
    assert max(line["sampler_gap"] for line in metrics) < ROUNDING
    for line in metrics:
        assert line["auxiliary"] > 3 * PROMPTS, "each prompt, and steps of its completions"
        assert 0.3 < line["prefix_cache_hits"] < 1
    print("hit rate", [round(line["prefix_cache_hits"], 3) for line in metrics])
    recipe["training"]["max_steps"] = 1
    again = lines(run(tmp_path / "again", recipe) / "metrics.jsonl")[0]
    first = metrics[0]["prefix_cache_hits"]
    assert again["prefix_cache_hits"] == pytest.approx(first, abs=0.02), "what others asked before is not counted"
    written = [t for step in range(STEPS) for t in lines(out / "rollouts" / f"{step:06d}.jsonl")]
    by_place = {(t["number"], t["place"]): t for t in written}
    for t in (t for t in written if t["auxiliary"]):
        source = by_place[t["number"], t["source"]]
        assert t["given"] in source["steps"]
        assert t["given"] + len(t["tokens"]) <= 20


def test_an_adapter_is_served_merged(wide: Path, server: Server, tmp_path: Path):
    model = {"lora": {"r": 4, "lora_alpha": 32}}
    recipe = recipe_of(wide, rollout={"vllm_server_base_url": server.client.url}, model=model)
    assert_whole(run(tmp_path / "adapter", recipe), STEPS)


@pytest.mark.parametrize("sharding", ["ddp", "zero3"])
def test_several_processes_write_with_one_server(sharding: str, wide: Path, server: Server, tmp_path: Path):
    recipe = write_recipe(
        tmp_path / "several.yaml", recipe_of(wide, rollout={"vllm_server_base_url": server.client.url})
    )
    out, log = tmp_path / "several", tmp_path / "log"
    words, surroundings = launcher(sharding)
    program = ["-m", "align", "train", str(recipe), f"training.output_dir={out}"]
    with log.open("wb") as told:
        done = subprocess.run([*words, *program], stdout=told, stderr=told, env=surroundings, timeout=300, check=False)
    assert done.returncode == 0, log.read_text()[-3000:]
    assert_whole(out, STEPS)


def test_weights_that_did_not_arrive_stop_the_run(
    wide: Path, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """A server that only says that it has read them."""
    monkeypatch.setattr(Server, "load_weights", lambda self, folder, label: self.label(label))
    rollout, optim = {"vllm_server_base_url": server.client.url}, {"learning_rate": 1e-2}
    recipe = write_recipe(tmp_path / "stale.yaml", recipe_of(wide, rollout=rollout) | {"optim": optim})
    out = tmp_path / "stale"
    assert main(["train", str(recipe), f"training.output_dir={out}"]) == 1
    assert "does not serve the policy's weights: its log-probabilities differ" in capsys.readouterr().err
    steps = len(lines(out / "metrics.jsonl"))
    assert not steps or (out / "checkpoints" / f"step-{steps:06d}").is_dir()


def test_doctor_finds_nothing_to_mend(wide: Path, server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    recipe = recipe_of(wide, rollout={"vllm_server_base_url": server.client.url})
    assert main(["doctor", str(write_recipe(tmp_path / "mine.yaml", recipe))]) == 0
    told = capsys.readouterr().out
    assert "sampler and trainer: log-probabilities differ by" in told
    assert "nothing to mend" in told

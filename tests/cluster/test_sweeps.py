"""Grids over keys of a recipe: their names, what is found before they begin, and a sweep that is killed and goes on."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from children import end_with
from kills import ended, wait_for
from small_runs import FRESH, same, train, weights, write_recipe, write_rows

from align.cli.main import main
from align.cluster.course import share_of
from align.cluster.grid import Cell, parts, read_grid
from align.cluster.sweeps import SweepRun, plan
from align.errors import Mistakes, UserError

METHOD = '''
from dataclasses import dataclass

from align.batches import Demonstrations, Sequences
from align.methods.base import Loss, OfflineMethod, aggregated

calls = []


@dataclass(frozen=True, kw_only=True)
class Flawed(OfflineMethod[Demonstrations[Sequences]]):
    name = "flawed"
    flaw: int = 0

    def loss(self, batch: Demonstrations[Sequences]) -> Loss:
        calls.extend([1] * self.flaw)
        if len(calls) > 8:
            raise ValueError("a flaw of its own")
        return Loss(aggregated(-batch.completion.logps, batch.completion.mask, "token_mean"))
'''


def names(*words: str) -> list[str]:
    return [cell.name for cell in read_grid(words).cells()]


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("1,2", ["1", "2"]),
        ("1e-5, 3e-5", ["1e-5", "3e-5"]),
        ("[1, 2],[3]", ["[1, 2]", "[3]"]),
        ("{a: [1, 2], b: 3},null", ["{a: [1, 2], b: 3}", "null"]),
        ("'a,b',c", ["'a,b'", "c"]),
        ('"a\\",b",c', ['"a\\",b"', "c"]),
        ("it's,[it's]", ["it's", "[it's]"]),
        ("[1, 2", ["[1, 2"]),
        ("a,,b", ["a", "", "b"]),
        ("alone", ["alone"]),
    ],
)
def test_commas_divide_values_but_not_inside_of_one(text: str, values: list[str]) -> None:
    assert parts(text) == values


def test_a_cell_is_called_by_what_is_its_own() -> None:
    grid = read_grid(["optim.learning_rate=1e-5,3e-5", "training.max_steps=4", "method.beta=0.1,0.3"])
    assert grid.fixed == ("training.max_steps=4",)
    assert [cell.name for cell in grid.cells()] == [
        "learning_rate=1e-5,beta=0.1", "learning_rate=1e-5,beta=0.3",
        "learning_rate=3e-5,beta=0.1", "learning_rate=3e-5,beta=0.3",
    ]  # fmt: skip
    assert grid.cells()[1] == Cell("learning_rate=1e-5,beta=0.3", ("optim.learning_rate=1e-5", "method.beta=0.3"))
    assert names("method.beta=1,2", "rollout.beta=-3,null")[0] == "method.beta=1,rollout.beta=-3"
    assert names("model.model_name_or_path=runs/a,/big/b c") == [
        "model_name_or_path=runs-a", "model_name_or_path=big-b-c"
    ]  # fmt: skip
    assert names("optim.optim_args.betas=[0.9, 0.95],[0.8, 0.9]")[0] == "betas=0.9-0.95"


def test_two_values_never_share_a_folder() -> None:
    alike = names("data.train=a/b,a-b,c")
    assert len(set(alike)) == 3
    assert all(name.startswith("train=a-b-") for name in alike[:2])
    assert alike[2] == "train=c"
    assert alike == names("data.train=a/b,a-b,c")
    long = names(f"data.train={'x' * 300},{'x' * 299}y")
    assert len(set(long)) == 2
    assert max(map(len, long)) < 200


@pytest.mark.parametrize(
    ("words", "finding"),
    [
        (["method.beta=0.1"], "sweep: no key has several values"),
        (["method.beta=0.1,,0.2"], "method.beta: has an empty value between commas"),
        (["method.beta=0.1,0.1"], "method.beta: 0.1 stands twice"),
        (["method.beta=1,2", "method.beta=3,4"], "method.beta: stands twice with several values"),
        (["method.beta=1,2", "method.beta=3"], "method.beta: stands beside the several values of method.beta"),
        (["model.lora.r=4", "model.lora={r: 1},{r: 2}"], "model.lora.r: stands beside the several values of"),
        (["training.output_dir=a,b"], "training.output_dir: each cell has its own; the folder of all of them is --out"),
        (["name=a", "method.beta=1,2"], "name: each cell has its own"),
    ],
)
def test_what_is_no_grid_is_told(words: list[str], finding: str) -> None:
    with pytest.raises(UserError, match="^" + finding.replace(".", r"\.")):
        read_grid(words)


def test_all_that_is_wrong_with_any_cell_is_told_before_one_begins(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    words = ["sweep", "dpo", "method.beta=0.1,x", "optim.learning_rate=1e-4,2e-4", "training.sed=1", "--out", str(out)]
    assert main(words) == 2
    said = capsys.readouterr().err
    beta = "command line: method.beta: found the text 'x'; expected a number"
    assert f"beta=x,learning_rate=1e-4; beta=x,learning_rate=2e-4: {beta}" in said
    assert said.count("training.sed: no such key") == 1
    assert main(["sweep", "dpo", "method.beta=0.1,0.10", "--out", str(out)]) == 2
    assert "beta=0.1 and beta=0.10 would be the same run; keep one of them" in capsys.readouterr().err
    assert main(["sweep", "dpo", "method.beta=0.1,0.2", "--jobs", "0"]) == 2
    assert "--jobs: 0 must be at least 1" in capsys.readouterr().err
    assert main(["sweep", "dpo", "data.num_rows=16", "data.max_length=8,512", "--out", str(out), "--dry-run"]) == 2
    assert "max_length=8: data.max_length: 32 of 32 rows" in (said := capsys.readouterr().err)
    assert "max_length=512" not in said
    sharded = ["sweep", "dpo", "data.num_rows=16", "optim.optim=AdamW,Adafactor", "--sharding", "fsdp2", "--dry-run"]
    assert main([*sharded, "--out", str(out)]) == 2
    assert "optim=Adafactor: optim.optim: Adafactor keeps numbers for rows and columns" in capsys.readouterr().err
    assert not out.exists()


def test_a_folder_that_holds_something_else_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    words = ["sweep", "dpo", "method.beta=0.1,0.2", "--out", str(tmp_path)]
    assert main(words) == 2
    assert f"--out {tmp_path}: holds something, and no sweep" in capsys.readouterr().err
    (tmp_path / "sweep.yaml").write_text("values: {optim.learning_rate: ['1', '2']}")
    assert main(words) == 2
    assert "holds a sweep over optim.learning_rate; choose another folder" in capsys.readouterr().err
    (tmp_path / "sweep.yaml").write_text("values: {1: [a]}")
    assert main(words) == 2
    assert "holds a sweep over 1; choose another folder" in capsys.readouterr().err
    for broken in ("values: 5", "values: {method.beta: [a]}\ncells: 7"):
        (tmp_path / "sweep.yaml").write_text(broken)
        assert main(words) == 2
        assert "holds something, and no sweep" in capsys.readouterr().err
    (tmp_path / "sweep.yaml").write_text("values: {method.beta: ['0.1']}")
    (tmp_path / "beta=0.2").write_text("mine")
    assert main(words) == 2
    assert "beta=0.2: its folder cannot be written: Not a directory" in capsys.readouterr().err


def test_cells_at_a_time_share_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    how = SweepRun(jobs=2)
    assert how.gpus(5) == 2
    assert [share_of(how, 2, place) for place in (0, 1)] == [
        {"CUDA_VISIBLE_DEVICES": "0,1"}, {"CUDA_VISIBLE_DEVICES": "2,3"},
    ]  # fmt: skip
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6,GPU-a,7")
    assert share_of(how, 2, 1) == {"CUDA_VISIBLE_DEVICES": "GPU-a,7"}
    with pytest.raises(UserError, match="--jobs: 3 cells at a time, and there are 2 GPUs; each needs one"):
        SweepRun(jobs=3).gpus(2)
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert int(share_of(how, 0, 1)["OMP_NUM_THREADS"]) == max(1, (os.cpu_count() or 1) // 2)
    assert share_of(SweepRun(), 0, 0) == {}


@pytest.mark.processes
def test_a_killed_sweep_goes_on_and_a_failed_cell_stops_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The first cell is cut, the second has ended before, the third fails, the fourth cannot even begin."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "flawed.py").write_text(METHOD)
    rows = [{"prompt": f"Say {i}.", "completion": f" It is {i}."} for i in range(24)]
    recipe = write_recipe(tmp_path / "tiny.yaml", {
        "method": {"name": "flawed:Flawed"}, "model": FRESH,
        "data": {"train": write_rows(tmp_path / "rows.jsonl", rows), "test": 0.25},
        "optim": {"learning_rate": 0.01}, "logging": {"num_completions": 0},
        "training": {"max_steps": 12, "batch_size": 4, "save_steps": 1, "save_total_limit": 3, "eval_steps": 0},
    })  # fmt: skip
    out = tmp_path / "out"
    words = ["sweep", str(recipe), "method.flaw=0,-1,1,2", "--out", str(out)]
    killed = os.fork()
    if not killed:
        end_with(lambda: main(words))
    assert wait_for(killed, lambda: (out / "flaw=0/checkpoints/step-000002").exists())
    os.kill(killed, signal.SIGKILL)
    assert ended(killed) == -signal.SIGKILL
    assert not (out / "flaw=0/final").exists()
    train(recipe, out / "flaw=-1", "method.flaw=-1")
    before = (out / "flaw=-1/report.html").stat().st_mtime_ns
    (out / "flaw=2/launch/recipe.yaml").mkdir(parents=True)
    capfd.readouterr()
    assert main(words) == 1
    told = capfd.readouterr()
    assert "flaw=0: going on from step-" in told.out
    assert "==> flaw=-1: has ended already" in told.out
    assert "==> flaw=1: has failed (exit code 1); the others go on" in told.err
    assert "==> flaw=2: has failed (could not begin); the others go on" in told.err
    assert "2 of 4 cells failed" in told.err
    assert "a flaw of its own" in (end := told.err.rpartition("2 of 4 cells failed")[2])
    assert "flaw=2: could not begin: [Errno 21] Is a directory" in end
    assert (out / "flaw=-1/report.html").stat().st_mtime_ns == before
    whole = train(recipe, tmp_path / "whole")
    assert same(weights(whole), weights(out / "flaw=0"))
    page = (out / "report.html").read_text()
    assert "A sweep: 3 runs side by side" in page
    assert main([*words, "--dry-run"]) == 0
    states = [line.split(":")[1].strip() for line in capfd.readouterr().out.splitlines() if line.startswith("flaw=")]
    assert states == ["has ended", "has ended", "goes on", "new"]
    other = r"flaw=0; flaw=-1; flaw=1: holds a run of another recipe \(training.seed: 0 there, 7 now\)"
    with pytest.raises(Mistakes, match=other):
        plan(str(recipe), read_grid(["method.flaw=0,-1,1,2", "training.seed=7"]), out, 1)

"""Checkpoints: whole or not there, whatever ends the writer; damage is found, named and passed over."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from align.errors import RunError, UserError
from align.training import checkpoint
from align.training.state import load_state, load_tensors, random_state, save_state, save_tensors, set_random_state

STEPS = [10, 20, 30]
PLACE = Path(checkpoint.__file__).parents[2]


def content(step: int) -> dict[str, bytes]:
    draw = np.random.default_rng(step)
    sizes = {"model.safetensors": 4000, "ranks/rank-0.pt": 900, "ranks/rank-1.pt": 901}
    return {name: draw.bytes(size) for name, size in sizes.items()}


def save(root: Path, step: int) -> Path:
    with checkpoint.writing(root, step) as tmp:
        for name, data in content(step).items():
            (tmp / name).parent.mkdir(exist_ok=True)
            (tmp / name).write_bytes(data)
    return checkpoint.folder(root, step)


def read(path: Path) -> dict[str, bytes]:
    inside = [p for p in path.rglob("*") if p.is_file() and p.name != "manifest.json"]
    return {p.relative_to(path).as_posix(): p.read_bytes() for p in inside}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for step in STEPS:
        save(tmp_path / "checkpoints", step)
    return tmp_path / "checkpoints"


def silent(text: str) -> None:
    raise AssertionError(f"nothing was to be said: {text}")


# ---- a whole one ----------------------------------------------------------------------------------------------------


def test_what_was_written_is_read_back_and_verifies(root: Path):
    assert [checkpoint.step_of(p) for p in checkpoint.checkpoints(root)] == STEPS
    newest = checkpoint.latest_good(root, silent)
    assert newest is not None
    assert newest.name == "step-000030"
    assert read(newest) == content(30)
    assert checkpoint.verify(newest) == []
    assert checkpoint.require_good(newest) == newest
    assert checkpoint.untrusted(newest) == []


def test_manifest_agrees_with_an_outside_sha256(root: Path):
    if not shutil.which("sha256sum"):
        pytest.fail("coreutils' sha256sum is needed")
    for name, entry in json.loads((root / "step-000020/manifest.json").read_text())["files"].items():
        told = subprocess.run(["sha256sum", root / "step-000020" / name], capture_output=True, text=True, check=True)
        assert told.stdout.split()[0] == entry["sha256"]


def test_saving_a_step_again_replaces_it(root: Path):
    with checkpoint.writing(root, 30) as tmp:
        (tmp / "only").write_bytes(b"new")
        assert read(root / "step-000030") == content(30), "the old one stays until the commit"
    assert read(root / "step-000030") == {"only": b"new"}
    assert sorted(p.name for p in root.iterdir()) == ["step-000010", "step-000020", "step-000030"]


def test_an_error_while_writing_leaves_no_trace(root: Path):
    with contextlib.suppress(KeyboardInterrupt), checkpoint.writing(root, 40) as tmp:
        (tmp / "half").write_bytes(b"x")
        raise KeyboardInterrupt
    assert sorted(p.name for p in root.iterdir()) == ["step-000010", "step-000020", "step-000030"]


def test_no_checkpoints_is_none_and_not_an_error(tmp_path: Path):
    assert checkpoint.latest_good(tmp_path / "checkpoints", silent) is None


# ---- damage ---------------------------------------------------------------------------------------------------------


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


DAMAGE = {
    "one bit": (lambda p: _flip(p / "ranks/rank-0.pt"), "ranks/rank-0.pt: content is not what was written"),
    "cut": (lambda p: os.truncate(p / "model.safetensors", 3999), "has 3,999 bytes, was written with 4,000"),
    "emptied": (lambda p: os.truncate(p / "model.safetensors", 0), "model.safetensors: has 0 bytes"),
    "file gone": (lambda p: (p / "ranks/rank-1.pt").unlink(), "ranks/rank-1.pt: missing"),
    "file too many": (lambda p: (p / "ranks/rank-2.pt").write_bytes(b""), "ranks/rank-2.pt: not in the manifest"),
    "manifest gone": (lambda p: (p / "manifest.json").unlink(), "manifest.json: missing"),
    "manifest torn": (lambda p: os.truncate(p / "manifest.json", 100), "manifest.json: cannot be read"),
    "manifest a list": (lambda p: (p / "manifest.json").write_text("[]"), "manifest.json: cannot be read"),
    "other step's": (lambda p: shutil.copy(p.parent / "step-000010/manifest.json", p), "manifest.json: is of step 10"),
    "a link": (
        lambda p: ((p / "model.safetensors").unlink(), (p / "model.safetensors").symlink_to("/dev/null")),
        "model.safetensors: is a link",
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_named_and_the_one_before_is_used(root: Path, damage: str):
    do, finding = DAMAGE[damage]
    do(root / "step-000030")
    said: list[str] = []
    assert checkpoint.latest_good(root, said.append) == root / "step-000020"
    assert len(said) == 1
    assert "step-000030: damaged" in said[0]
    assert finding in said[0]
    with pytest.raises(UserError, match=r"step-000030: cannot be resumed from"):
        checkpoint.require_good(root / "step-000030")


def test_all_damaged_is_an_error_that_names_each(root: Path):
    for step in STEPS:
        _flip(checkpoint.folder(root, step) / "model.safetensors")
    with pytest.raises(UserError, match=r"no checkpoint is whole") as caught:
        checkpoint.latest_good(root, lambda text: None)
    assert all(f"step-0000{step}: damaged: model.safetensors" in str(caught.value) for step in STEPS)


def test_a_newer_format_is_not_taken_for_damage(root: Path):
    path = root / "step-000030/manifest.json"
    manifest = json.loads(path.read_text())
    path.write_text(json.dumps(manifest | {"format": manifest["format"] + 1, "align": "9.9"}))
    assert "from a newer align (9.9)" in checkpoint.verify(path.parent)[0]
    with pytest.raises(UserError, match=r"from a newer align.*Upgrade"):
        checkpoint.latest_good(root, silent)


def test_foreign_folder_is_refused(tmp_path: Path):
    (tmp_path / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(UserError, match="not a finished checkpoint of align"):
        checkpoint.require_good(tmp_path)
    with pytest.raises(UserError, match="no such checkpoint"):
        checkpoint.require_good(tmp_path / "nowhere")


def test_pickles_of_another_user_are_not_trusted(root: Path):
    path = root / "step-000030"
    if os.getuid() == 0:
        os.chown(path / "ranks/rank-0.pt", 12345, 12345)
        assert checkpoint.untrusted(path) == ["rank-0.pt: belongs to another user"]
    _flip(path / "ranks/rank-1.pt")
    assert any("rank-1.pt: content" in p for p in checkpoint.untrusted(path))


# ---- kept -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keep", "best", "left"), [(1, None, [30]), (2, None, [20, 30]), (1, 10, [10, 30]), (5, 10, STEPS), (1, 30, [30])]
)
def test_prune_keeps_the_newest_and_the_best(root: Path, keep: int, best: int | None, left: list[int]):
    gone = checkpoint.prune(root, keep, best)
    assert [checkpoint.step_of(p) for p in checkpoint.checkpoints(root)] == left
    assert sorted(checkpoint.step_of(p) for p in gone) == sorted(set(STEPS) - set(left))
    assert len(list(root.iterdir())) == len(left)


def test_rewind_sets_aside_what_is_of_another_past(root: Path):
    checkpoint.rewind(root, 10)
    assert checkpoint.latest_good(root, silent) == root / "step-000010"
    assert read(root / "abandoned-step-000030") == content(30), "nothing made is lost yet"
    save(root, 20)
    checkpoint.prune(root, 5)
    assert sorted(p.name for p in root.iterdir()) == ["abandoned-step-000030", "step-000010", "step-000020"]


# ---- killed ---------------------------------------------------------------------------------------------------------

WRITER = """
import os, signal, sys
from pathlib import Path
from align.training import checkpoint
import numpy as np

root, stop = Path(sys.argv[1]), int(sys.argv[2])
seen = 0

def die_at(event, arguments):
    # Each system call that changes the disk is an instant to be killed before.
    global seen
    if event == "open" and str(root) in str(arguments[0]) and arguments[1] in ("w", "wb", "rb+"):
        seen += 1
    elif event in ("os.rename", "os.mkdir", "os.rmdir", "os.remove", "shutil.rmtree", "instant"):
        seen += 1
    else:
        return
    if seen == stop:
        os.kill(os.getpid(), signal.SIGKILL)

draw = np.random.default_rng(0)
sys.addaudithook(die_at)
with checkpoint.writing(root, int(sys.argv[3])) as tmp:
    for name, data in {"model.safetensors": draw.bytes(4000), "rank-0.pt": draw.bytes(900)}.items():
        with open(tmp / name, "wb") as out:
            for start in range(0, len(data), 500):
                out.write(data[start : start + 500])
                out.flush()
                sys.audit("instant")
checkpoint.prune(root, 2)
sys.audit("instant")
print(seen)
"""


def write_until(root: Path, stop: int, step: int) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", WRITER, str(root), str(stop), str(step)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=PLACE)


@pytest.mark.parametrize("step", [30, 40], ids=["over an existing step", "a new step"])
def test_killed_at_any_instant_a_whole_checkpoint_is_found(root: Path, tmp_path: Path, step: int):
    whole = write_until(shutil.copytree(root, tmp_path / "whole"), 0, step)
    assert whole.returncode == 0, whole.stderr
    instants, finished = int(whole.stdout), read(checkpoint.folder(tmp_path / "whole", step))
    assert instants > 15
    results = set()
    chosen = {1, 2, instants, *random.Random(0).sample(range(3, instants), 8)}
    for stop in sorted(chosen | set(range(instants - 12, instants))):
        place = shutil.copytree(root, tmp_path / f"killed-{stop}")
        assert write_until(place, stop, step).returncode == -signal.SIGKILL
        good = checkpoint.latest_good(place, silent)
        assert good is not None
        assert not [p for p in place.iterdir() if p.name.startswith(".")], "leftovers are gone"
        old = content(checkpoint.step_of(good))
        assert read(good) in (old, finished)
        results.add((good.name, read(good) == finished))
        save(place, 50)  # and the run can go on
        assert checkpoint.latest_good(place, silent) == place / "step-000050"
    assert results == {("step-000030", False), (checkpoint.folder(root, step).name, True)}


# ---- disk full ------------------------------------------------------------------------------------------------------

FILLER = """
import resource, sys
from pathlib import Path
import torch
from align.errors import RunError
from align.training import checkpoint
from align.training.state import save_state, save_tensors

root = Path(sys.argv[1])
weights = {"w": torch.ones(100_000)}
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
kinds = {
    "safetensors": lambda tmp: save_tensors(weights, tmp / "model.safetensors"),
    "state": lambda tmp: save_state(weights, tmp / "optimiser.pt"),
    "torch": lambda tmp: torch.save(weights, tmp / "optimiser.pt"),
    "bytes": lambda tmp: (tmp / "bytes").write_bytes(bytes(400_000)),
    "manifest": lambda tmp: [(tmp / f"{i:0200}").write_bytes(b"") for i in range(500)],
}
for kind, write in kinds.items():
    try:
        with checkpoint.writing(root, 40) as tmp:
            write(tmp)
    except RunError as error:
        print(error)
    else:
        print(kind, "was written")
"""


def test_full_disk_names_the_folder_and_loses_nothing(root: Path):
    """A limit on the size of files stands for the disk: the same errors by the same ways."""
    command = [sys.executable, "-c", FILLER, str(root)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=PLACE)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 5
    for line in lines:
        assert f"{root}: no room to save step-000040" in line
        needed = re.search(r"it needs more than ([\d,]+) bytes, ([\d,]+) are free", line)
        assert needed is not None
        assert int(needed[1].replace(",", "")) > 5801, "at least as much as the one before it"
        assert "the previous checkpoint step-000030 is intact" in line
    assert sorted(p.name for p in root.iterdir()) == ["step-000010", "step-000020", "step-000030"]
    assert read(root / "step-000030") == content(30)


def test_other_errors_are_not_called_a_full_disk(root: Path):
    with pytest.raises(ValueError, match="mine"), checkpoint.writing(root, 40):
        raise ValueError("mine")


def test_who_writes_while_another_gives_up_says_so(root: Path):
    tmp = checkpoint.begin(root, 40)

    def write_after_the_other_failed() -> None:
        with checkpoint.guarded(tmp):
            with contextlib.suppress(ValueError), checkpoint.guarded(checkpoint.temporary(root, 40)):
                raise ValueError("the other's reason")
            (tmp / "rank-0.pt").write_bytes(b"x")

    with pytest.raises(RunError, match="another process gave up saving"):
        write_after_the_other_failed()


def test_unwritable_folder_is_named(tmp_path: Path):
    (tmp_path / "checkpoints").write_text("a file")
    with pytest.raises(RunError, match=r"checkpoints: cannot save step 1 here"):
        checkpoint.begin(tmp_path / "checkpoints", 1)


# ---- what the files hold --------------------------------------------------------------------------------------------


def test_tied_and_sliced_tensors_come_back(tmp_path: Path):
    whole = torch.randn(6, 4)
    tensors = {"a": whole, "b": whole, "row": whole[1], "t": whole.t(), "one": torch.tensor(3)}
    tensors["half"] = whole.bfloat16()
    save_tensors(tensors, tmp_path / "x.safetensors")
    back = load_tensors(tmp_path / "x.safetensors")
    assert back.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert torch.equal(back[name], tensor)
        assert back[name].dtype == tensor.dtype


def test_optimiser_state_comes_back_and_code_does_not(tmp_path: Path):
    weight = torch.nn.Parameter(torch.randn(3))
    optimiser = torch.optim.AdamW([weight])
    weight.grad = torch.randn(3)
    optimiser.step()
    save_state({"optimiser": optimiser.state_dict(), "step": 1}, tmp_path / "s.pt")
    back = load_state(tmp_path / "s.pt")
    assert torch.equal(back["optimiser"]["state"][0]["exp_avg"], optimiser.state_dict()["state"][0]["exp_avg"])
    torch.save(Path("x"), tmp_path / "code.pt")
    with pytest.raises(RunError, match=r"code\.pt: cannot be loaded"):
        load_state(tmp_path / "code.pt")
    (tmp_path / "bad.safetensors").write_bytes(b"no")
    with pytest.raises(RunError, match=r"bad\.safetensors: cannot be read"):
        load_tensors(tmp_path / "bad.safetensors")


def test_random_numbers_go_on_where_they_were(tmp_path: Path):
    def draw() -> list[float]:
        noise = [random.random(), random.gauss(0, 1), float(np.random.rand()), float(np.random.randn())]
        return [*noise, float(torch.rand(())), float(torch.randn(()))]

    random.seed(1)
    np.random.seed(2)
    draw()  # an odd number of normals: the second of a pair is kept back in the state
    save_state(random_state(), tmp_path / "random.pt")
    first = draw()
    assert draw() != first
    set_random_state(load_state(tmp_path / "random.pt"))
    assert draw() == first

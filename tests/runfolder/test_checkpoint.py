"""Checkpoints: whole or not there, whatever ends the writer; damage is found, named and passed over."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from three_checkpoints import STEPS, content, read, save, silent, three, writing

from align.errors import RunError, UserError
from align.runfolder import checkpoint
from align.system.sums import sealed, unsealed


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return three(tmp_path / "checkpoints")


# ---- a whole one ----------------------------------------------------------------------------------------------------


def test_what_was_written_is_read_back_and_verifies(root: Path):
    assert [checkpoint.step_of(p) for p in checkpoint.checkpoints(root)] == STEPS
    newest = checkpoint.latest_good(root, silent)
    assert newest is not None
    assert newest.name == "step-000030"
    assert read(newest) == content(30)
    assert checkpoint.verify(newest) == []
    assert checkpoint.require_good(newest) == newest


def test_manifest_agrees_with_an_outside_sha256(root: Path):
    if not shutil.which("sha256sum"):
        pytest.fail("coreutils' sha256sum is needed")
    for name, entry in json.loads((root / "step-000020/manifest.json").read_text())["files"].items():
        told = subprocess.run(["sha256sum", root / "step-000020" / name], capture_output=True, text=True, check=True)
        assert told.stdout.split()[0] == entry["sha256"]


def test_saving_a_step_again_replaces_it(root: Path):
    with writing(root, 30) as tmp:
        (tmp / "only").write_bytes(b"new")
        assert read(root / "step-000030") == content(30), "the old one stays until the commit"
    assert read(root / "step-000030") == {"only": b"new"}
    assert sorted(p.name for p in root.iterdir()) == ["step-000010", "step-000020", "step-000030"]


def test_an_error_while_writing_leaves_no_trace(root: Path):
    with contextlib.suppress(KeyboardInterrupt), writing(root, 40) as tmp:
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


@pytest.mark.parametrize(("by", "age"), [(1, "a newer"), (-1, "an older")])
def test_another_format_is_not_taken_for_damage(root: Path, by: int, age: str):
    path = root / "step-000030/manifest.json"
    manifest = unsealed(json.loads(path.read_text()))
    path.write_text(json.dumps(sealed(manifest | {"format": manifest["format"] + by, "align": "9.9"})))
    assert f"from {age} align (9.9)" in checkpoint.verify(path.parent)[0]
    with pytest.raises(UserError, match=rf"from {age} align.*the align that wrote it"):
        checkpoint.latest_good(root, silent)


def test_foreign_folder_is_refused(tmp_path: Path):
    (tmp_path / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(UserError, match="not a finished checkpoint of align"):
        checkpoint.require_good(tmp_path)
    with pytest.raises(UserError, match="no such checkpoint"):
        checkpoint.require_good(tmp_path / "nowhere")


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


def test_other_errors_are_not_called_a_full_disk(root: Path):
    with pytest.raises(ValueError, match="mine"), writing(root, 40):
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

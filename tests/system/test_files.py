"""Writing follows no link, leaves no half, and nothing is written by another way."""

from __future__ import annotations

import ast
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from three_checkpoints import writing

from align.runfolder import checkpoint
from align.runfolder.lock import Lock
from align.runfolder.logs import JsonLines
from align.system import files
from align.system.lines import drop_torn_end

ROOT = Path(__file__).parents[2]
KEPT = "a file of the user's, elsewhere\n"


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """What a link leads to, which must stay as it is."""
    path = tmp_path / "elsewhere" / "precious.txt"
    path.parent.mkdir()
    path.write_text(KEPT)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "run"
    path.mkdir()
    return path


@pytest.mark.parametrize("name", ["report.html", ".report.html.tmp"])
def test_a_whole_file_takes_the_place_of_a_link(folder: Path, target: Path, name: str):
    (folder / name).symlink_to(target)
    files.replace_file(folder / "report.html", "new")
    assert (folder / "report.html").read_text() == "new"
    assert not (folder / "report.html").is_symlink()
    assert [p.name for p in folder.iterdir()] == ["report.html"]
    assert target.read_text() == KEPT


@pytest.mark.parametrize(
    "write",
    [
        lambda path: files.open_end(path),
        lambda path: files.cut(path, 0),
        lambda path: files.sha256_of_flushed(path),
        lambda path: Lock(path).take(),
        lambda path: JsonLines(path),
        drop_torn_end,
    ],
    ids=["append", "cut", "flush", "lock", "log", "torn end"],
)
@pytest.mark.parametrize("kind", ["link", "dangling"])
def test_what_is_opened_again_is_no_link(folder: Path, target: Path, write: Callable[[Path], object], kind: str):
    path = folder / "name"
    target.write_text('{"step": 1}\ntorn')
    path.symlink_to(target if kind == "link" else target.with_name("new"))
    if (kind, write) == ("dangling", drop_torn_end):
        return  # nothing to cut
    with pytest.raises(OSError, match="written through"):
        write(path)
    assert target.read_text() == '{"step": 1}\ntorn'
    assert not target.with_name("new").exists()


def test_a_pipe_is_not_waited_for(folder: Path):
    os.mkfifo(folder / "pipe")
    for write in (files.open_end, files.sha256_of_flushed, lambda path: Lock(path).take()):
        with pytest.raises(OSError, match="written through"):
            write(folder / "pipe")
    assert files.odd_in(folder) == ["pipe"]


def test_folders_behind_links_are_not_entered(folder: Path, target: Path):
    for name in ("rollouts", "final", ".final.tmp"):
        (folder / name).symlink_to(target.parent)
    with pytest.raises(OSError, match="is a link"):
        files.inner_folder(folder / "rollouts")
    aside = files.new_folder(files.aside_of(folder / "final"))
    (aside / "config.json").write_text("{}")
    files.put_folder(aside, folder / "final")
    assert [p.name for p in (folder / "final").iterdir()] == ["config.json"]
    assert target.read_text() == KEPT
    files.remove(folder / "rollouts")
    assert [p.name for p in target.parent.iterdir()] == ["precious.txt"]


def test_checkpoints_behind_links_are_not_written(folder: Path, target: Path):
    root = folder / "checkpoints"
    root.mkdir()
    for name in (".step-000004.tmp", ".step-000004.old", ".step-000002.gone"):
        (root / name).symlink_to(target.parent)
    with writing(root, 4) as tmp:
        (tmp / "weights").write_bytes(b"w")
    assert [p.name for p in root.iterdir()] == ["step-000004"]
    assert target.read_text() == KEPT
    behind = folder / "linked"
    behind.symlink_to(target.parent)
    with pytest.raises(checkpoint.RunError, match="is a link"):
        checkpoint.begin(behind, 5)


def test_links_are_found_at_any_depth_and_not_followed(folder: Path, target: Path):
    (folder / "a/b").mkdir(parents=True)
    (folder / "wandb").mkdir()
    for name in ("a/b/c", "wandb/latest-run", "d"):
        (folder / name).symlink_to(target.parent)
    assert files.odd_in(folder, ["wandb"]) == ["a/b/c", "d"]
    (folder / "wandb/latest-run").unlink()
    (folder / "wandb").rmdir()
    (folder / "wandb").symlink_to(target.parent)
    assert files.odd_in(folder, ["wandb"]) == ["a/b/c", "d", "wandb"]


def test_a_failed_write_leaves_the_old_file_alone(folder: Path):
    path = folder / "a.json"
    files.write_json(path, 1)
    with suppress(ValueError), files.replacing(path) as out:
        out.write(b"half")
        raise ValueError
    assert path.read_text() == "1\n"
    assert [p.name for p in folder.iterdir()] == ["a.json"]


def test_two_writers_at_once_leave_one_whole_file(folder: Path):
    path = folder / "report.html"
    texts = [str(i) * 200_000 for i in range(4)]

    def write(text: str) -> None:
        for _ in range(10):
            files.replace_file(path, text)

    writers = [threading.Thread(target=write, args=(text,)) for text in texts]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert path.read_text() in texts
    assert [p.name for p in folder.iterdir()] == ["report.html"]


def test_a_strangers_folder_is_known(folder: Path, monkeypatch: pytest.MonkeyPatch):
    assert files.stranger(folder) is None
    me = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: me + 1)
    assert files.stranger(folder) is None, "as on a network disk: what is made here belongs to the same user"
    monkeypatch.setattr(files, "_owner_of_new", lambda folder: me + 1)
    assert files.stranger(folder) == me


# ---- the only way ---------------------------------------------------------------------------------------------------

NAMES = ("write_text", "write_bytes", "touch", "symlink_to", "hardlink_to", "copyfile", "copy2", "copytree")
OF_OS = ("os.open", "os.truncate", "os.replace", "os.rename", "shutil.move", "shutil.copy")


def test_nothing_is_written_by_another_way():
    wrong: list[str] = []
    for path in [*ROOT.glob("align/**/*.py"), *ROOT.glob("eval/**/*.py")]:
        if path == ROOT / "align/system/files.py":
            continue
        for call in (n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call)):
            name = ast.unparse(call.func)
            words = [w.value for w in call.args if isinstance(w, ast.Constant) and isinstance(w.value, str)]
            opens = name.rpartition(".")[2] == "open" and any(set(w) <= set("wax+bt") and w for w in words)
            if opens or name in OF_OS or name.rpartition(".")[2] in NAMES:
                wrong.append(f"{path.relative_to(ROOT)}:{call.lineno}: {ast.unparse(call)}")
    assert not [w for w in wrong if "os.devnull" not in w and "/proc/self/" not in w], wrong

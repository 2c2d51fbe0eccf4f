"""What only processes can differ in: user, Python, code, network. Ranks are forked from this process."""

from __future__ import annotations

import ctypes
import os
import platform
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from children import end_with

import align
from align.cluster import card, preflight
from align.cluster.attempt import Attempt, Rank
from align.cluster.preflight import fly
from align.errors import UserError
from align.runfolder import environment

NOBODY = 65534
CLONE_NEWNET = 0x40000000
Apart = Callable[[pytest.MonkeyPatch], object]
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="another user, or a network of one's own, is for root to give")


@pytest.fixture
def folder() -> Iterator[Path]:
    """That other users may look into."""
    with tempfile.TemporaryDirectory(prefix="preflight-", dir="/tmp") as name:
        os.chmod(name, 0o755)
        yield Path(name)


def flown(folder: Path, apart: Apart, data: Path | None = None, limit: float = 20.0) -> tuple[str, list[int]]:
    """What rank 0 has said, and how both ended; rank 1 does `apart` before."""
    attempt = Attempt(name="7.1", run=folder, num_ranks=2, gpus=0, nodes=("n1", "n2"), limit=limit)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    recipe = {"data": {"train": str(data)}} if data else {}

    def fly_as(number: int) -> int:
        rank = Rank(
            number=number, size=2, local=0, of_node=1, host="127.0.0.1", port=port, node=f"n{number + 1}",
            keeps=number == 0,
        )  # fmt: skip
        if number:
            apart(pytest.MonkeyPatch())
        try:
            fly(attempt, rank, recipe)
        except UserError as error:
            (folder / f"said-{number}").write_text(str(error))
            return error.exit_code
        return 0

    children = [os.fork() or end_with(lambda number=number: fly_as(number)) for number in range(2)]
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    said = folder / "said-0"
    return said.read_text() if said.exists() else "", codes


def test_two_processes_agree(folder: Path):
    assert flown(folder, lambda _: None) == ("", [0, 0])


@as_root
def test_data_that_a_node_may_not_read(folder: Path):
    rows = folder / "rows.jsonl"
    rows.write_text("{}")
    rows.chmod(0o600)

    def as_nobody(path: Path, seen: Callable[[Path], object] = card._seen) -> object:
        os.seteuid(NOBODY)
        try:
            return seen(path)
        finally:
            os.seteuid(0)

    said, _ = flown(folder, lambda patch: patch.setattr(card, "_seen", as_nobody), rows)
    assert said == f"node n2: data.train: {rows} cannot be read: Permission denied"


def test_another_python(folder: Path):
    said, _ = flown(folder, lambda patch: patch.setattr(platform, "python_version", lambda: "3.99.0"))
    assert said == f"node n2: python is 3.99.0, on n1 (rank 0) it is {platform.python_version()}"


def test_other_code_of_align(folder: Path):
    other = folder / "align"

    def no_code(place: str, names: list[str]) -> list[str]:
        return [name for name in names if not (name.endswith(".py") or Path(place, name).is_dir())]

    shutil.copytree(Path(align.__file__).parent, other, ignore=no_code)
    with (other / "cli/main.py").open("a") as file:
        file.write("# a line more\n")
    place = str(other / "runfolder/environment.py")
    said, _ = flown(folder, lambda patch: patch.setattr(environment, "__file__", place))
    assert said.startswith("node n2: the code of align is ")
    assert len(said.splitlines()) == 1


@as_root
def test_nodes_that_do_not_reach_each_other(folder: Path, monkeypatch: pytest.MonkeyPatch):
    """The second one has the store, which it came by, and no network any more when a collective begins."""
    monkeypatch.setattr(preflight, "LATER", 1.0)
    libc = ctypes.CDLL(None)
    collective = preflight._collective

    def apart(patch: pytest.MonkeyPatch) -> None:
        def without_network(meeting: object) -> None:
            assert libc.unshare(CLONE_NEWNET) == 0
            collective(meeting)  # type: ignore[arg-type]

        patch.setattr(preflight, "_collective", without_network)

    said, codes = flown(folder, apart, limit=2.0)
    assert codes == [2, 2]
    assert said.startswith(
        "rank 0 on n1: all ranks have arrived, and a collective of gloo has not gone through within 2 seconds: the "
        "nodes do not reach each other"
    )

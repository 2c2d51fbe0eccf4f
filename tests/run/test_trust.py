"""What another user has made: folders, and links in them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from small_runs import BRIEF, FRESH, run, write_rows

from align.cli.main import main
from align.system import files

KEPT = "a file of the user's, elsewhere\n"
ROWS = [{"prompt": f"Say {i}", "completion": " yes"} for i in range(6)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two steps with a checkpoint after each. To be copied, not touched."""
    place = tmp_path_factory.mktemp("whole")
    recipe = {
        "method": {"name": "sft"}, "model": FRESH, "logging": BRIEF,
        "data": {"train": write_rows(place / "rows.jsonl", ROWS)},
        "training": {"batch_size": 2, "max_steps": 2, "save_steps": 1, "layout": "padded"},
    }  # fmt: skip
    return run(place / "run", recipe)


@pytest.fixture
def copy(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "run"))


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """What a link leads to, which must stay as it is."""
    path = tmp_path / "elsewhere"
    path.mkdir()
    (path / "precious").write_text(KEPT)
    return path


def resume(folder: Path, *words: str) -> int:
    recipe, out = str(folder / "recipe.yaml"), f"training.output_dir={folder}"
    return main(["train", recipe, out, "training.max_steps=3", "--resume", "--allow-changes", "training", *words])


LINKS = (
    ".lock", ".recipe.yaml.tmp", ".metrics.jsonl.tmp", ".report.html.tmp", "metrics.jsonl", "completions.jsonl",
    "checkpoints", "final", ".final.tmp", "rollouts", "values", "init", "checkpoints/.step-000003.tmp",
    "checkpoints/step-000002/state-00000.pt",
)  # fmt: skip


@pytest.mark.parametrize("name", LINKS)
def test_a_run_folder_with_a_link_is_refused_and_nothing_is_written_through_it(
    name: str, copy: Path, elsewhere: Path, capsys: pytest.CaptureFixture[str]
):
    files.remove(copy / name)
    (copy / name).symlink_to(elsewhere if "." not in name.rpartition("/")[2].lstrip(".") else elsewhere / "precious")
    assert resume(copy) == 2
    assert f"{name}: a link or a pipe" in capsys.readouterr().err
    assert (elsewhere / "precious").read_text() == KEPT
    assert [p.name for p in elsewhere.iterdir()] == ["precious"]


def test_a_run_folder_that_is_itself_a_link_and_a_trackers_links_are_the_users_word(copy: Path, tmp_path: Path):
    (copy / "wandb").mkdir()
    (copy / "wandb/latest-run").symlink_to("run-1")
    (tmp_path / "here").symlink_to(copy)
    assert resume(tmp_path / "here") == 0
    assert (copy / "checkpoints/step-000003").is_dir()


def test_another_users_run_folder_is_refused_unless_told(
    copy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr("align.runfolder.folder.stranger", lambda folder: 4321)
    assert resume(copy) == 2
    assert "belongs to another user (number 4321)" in capsys.readouterr().err
    assert resume(copy, "--trust-folder") == 0

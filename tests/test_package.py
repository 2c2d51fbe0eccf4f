"""What is shipped: the wheel's contents, the assets, the launch files, the pinned versions."""

from __future__ import annotations

import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml
from accelerate.commands.config.config_args import ClusterConfig
from safetensors import safe_open

from align.assets import asset, asset_names
from align.errors import UserError
from align.recipe.text import recipe_names

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, so that the checkout stays clean."""
    copy, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("align", "eval", "recipes", "launch", "pyproject.toml", "README.md", "LICENSE"):
        subprocess.run(["cp", "-r", str(ROOT / name), str(copy)], check=True)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    done = subprocess.run([*command, "--wheel-dir", str(out), str(copy)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return next(out.glob("*.whl"))


def test_the_wheel_holds_all_that_a_user_needs(wheel: Path):
    names = set(zipfile.ZipFile(wheel).namelist())
    shared = f"{wheel.name.split('-py3')[0]}.data/data/share/align"
    for path in sorted((ROOT / "recipes").glob("*.yaml")) + sorted((ROOT / "launch").rglob("*.*")):
        assert f"{shared}/{path.relative_to(ROOT)}" in names
    for package, folder in ((ROOT / "align", ROOT), (ROOT / "eval/align_eval", ROOT / "eval")):
        for path in package.rglob("*"):
            if path.is_file() and path.suffix != ".pyc":
                assert str(path.relative_to(folder)) in names
    assert not any(n.endswith(".pyc") for n in names)
    assert {"align/assets/stories260k/LICENSE", "align/assets/polite_pairs/LICENSE.txt"} <= names
    assert not any(n.startswith(("tests", "eval/")) for n in names)
    assert wheel.stat().st_size < 5_000_000


def test_an_installed_wheel_finds_its_recipes_and_commands(wheel: Path, tmp_path: Path):
    place = tmp_path / "installed"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(place)]
    subprocess.run([*install, str(wheel)], check=True, capture_output=True)
    seen = subprocess.run(
        [sys.executable, "-m", "align", "check", "dpo"],
        env={"PYTHONPATH": str(place), "PATH": "/usr/bin:/bin"}, cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert seen.returncode == 0, seen.stderr
    assert "dpo: no mistakes found" in seen.stdout
    points = next(place.glob("*.dist-info/entry_points.txt")).read_text()
    assert "align = align.__main__:run" in points
    assert "align-eval = align_eval.cli:main" in points


def test_assets_are_whole_and_small():
    data = [
        f"{name}/{split}.jsonl"
        for name in ("addition", "polite_pairs", "story_openings")
        for split in ("test", "train")
    ]
    data += [f"mixed_answers/{name}.jsonl" for name in ("polite", "rude", "swapped", "test", "trusted")]
    models = ("careless_adder", "polite_guide", "stories260k")
    assert asset_names() == sorted([*data, "story_openings/hinted.jsonl", *models])
    with safe_open(asset("asset:stories260k") / "model.safetensors", "np") as weights:
        assert sum(weights.get_tensor(k).size for k in weights.keys()) == 260_032  # noqa: SIM118  not a dict
    rows = [asset(f"asset:polite_pairs/{n}.jsonl").read_text("utf-8").count("\n") for n in ("train", "test")]
    assert rows == [990, 110]
    assert sum(p.stat().st_size for p in (ROOT / "align/assets").rglob("*") if p.is_file()) < 5_000_000
    with pytest.raises(UserError, match="Did you mean asset:stories260k"):
        asset("asset:stories260")


@pytest.mark.parametrize("path", sorted((ROOT / "launch/accelerate").glob("*.yaml")), ids=lambda p: p.stem)
def test_launch_files_are_valid_and_know_no_method(path: Path):
    ClusterConfig.from_yaml_file(str(path))
    assert yaml.safe_load(path.read_text())["mixed_precision"] == "no"
    code = "\n".join(line.split("#")[0] for line in path.read_text().splitlines())
    assert not any(name in code.split() for name in recipe_names())


def test_every_launch_file_that_is_promised_is_there():
    there = {p.stem for p in (ROOT / "launch/accelerate").glob("*.yaml")}
    assert {"cpu_2", "one_gpu", "ddp", "zero2", "zero3", "fsdp2"} <= there


def test_constraints_pin_exactly_what_is_installed():
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    pinned = dict(line.split("==") for line in lines)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for requirement in project["dependencies"]:
        name = requirement.split(">")[0]
        assert version(name).split("+")[0] == pinned[name]
    assert pinned["torch"] == "2.13.0"
    assert not any("/" in line or "@" in line for line in lines)

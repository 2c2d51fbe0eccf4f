"""The house stands: who may import whom, how long things may be, and that loops know no method."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from align.methods.base import method_names

ROOT = Path(__file__).parents[1]
FLOORS = (  # from the ground up; a file imports from its own room and from floors below
    ("errors", "batches", "functional"),
    ("needs", "outside", "system", "assets"),
    ("methods", "data", "models", "world", "lab", "translate"),
    ("scoring", "runfolder"),
    ("rewards", "monitors"),
    ("training", "rollout", "report"),
    ("sources", "recipe", "judges"),
    ("run", "align_eval", "cluster", "plan"),
    ("cli", "api"),
    ("__main__", "trl"),
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
MOST_LOOSE = 6  # files at the root of `align`
MOST_IN_A_FOLDER = 18  # methods, one file each, apart
SOURCES = sorted([*ROOT.glob("align/**/*.py"), *ROOT.glob("eval/**/*.py")])
LOOPS = sorted(p for room in ("training", "sources", "scoring", "world") for p in ROOT.glob(f"align/{room}/*.py"))
TESTS = sorted(ROOT.glob("tests/**/*.py"))
Function = ast.FunctionDef | ast.AsyncFunctionDef


def name_of(path: Path) -> str:
    """`align/training/step.py` is `align.training.step`."""
    parts = path.relative_to(ROOT / "eval" if path.is_relative_to(ROOT / "eval") else ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room_of(module: str) -> str:
    """The part of the house: `align.rollout.vllm.client` is in `rollout`; of `align` itself it is empty."""
    first, _, rest = module.partition(".")
    if first == "align_eval":
        return "cli" if rest in ("cli", "__main__") else first
    return rest.split(".")[0]


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


MODULES = {name_of(path) for path in SOURCES}


def imports_of(path: Path) -> Iterator[str]:
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            module = node.module or ""
            inner = [f"{module}.{alias.name}" for alias in node.names]
            yield from (name if name in MODULES else module for name in inner)


def functions_of(path: Path) -> Iterator[Function]:
    return (node for node in ast.walk(parsed(path)) if isinstance(node, Function))


def is_ours(module: str) -> bool:
    return module.split(".")[0] in ("align", "align_eval")


def test_every_file_has_a_floor() -> None:
    rooms = {room_of(name_of(path)) for path in SOURCES} - {""}
    assert rooms == FLOOR.keys()


def test_imports_go_down() -> None:
    wrong: list[str] = []
    for path in SOURCES:
        room = room_of(name_of(path))
        for module in filter(is_ours, imports_of(path)) if room else ():
            other = room_of(module)
            if other not in {room, ""} and FLOOR[other] >= FLOOR[room]:
                wrong.append(f"{name_of(path)} (floor {FLOOR[room]}) imports {module} (floor {FLOOR[other]})")
    assert not wrong, "\n".join(wrong)


def test_no_floor_is_higher_than_it_must_be() -> None:
    """A room stands right above the highest of those that it imports from, so the number of floors says something."""
    below: dict[str, set[str]] = {room: set() for room in FLOOR}
    for path in SOURCES:
        if room := room_of(name_of(path)):
            below[room] |= {room_of(module) for module in imports_of(path) if is_ours(module)} - {room, ""}
    assert len(FLOORS) <= 10
    for room, others in below.items():
        if room != "align_eval":
            assert FLOOR[room] == max((FLOOR[other] + 1 for other in others), default=0), room


def test_a_stranger_finds_the_way() -> None:
    """Few loose files, no folder that is a heap, and each folder says what it is and where to begin to read."""
    assert len(list((ROOT / "align").glob("*.py"))) <= MOST_LOOSE
    for folder in {path.parent for path in SOURCES} - {ROOT / "align/methods", ROOT / "align", ROOT / "eval"}:
        assert len(list(folder.glob("*.py"))) <= MOST_IN_A_FOLDER, folder
        about = ast.get_docstring(parsed(folder / "__init__.py")) or ""
        read = re.findall(r"`([\w/.]+)`", about)
        assert "Read " in about, f"{folder}: its __init__.py has no reading order"
        places = (folder, ROOT / "align")
        lost = [name for name in read if not any((p / f"{name}.py").exists() or (p / name).exists() for p in places)]
        assert not lost, f"{folder}: {lost}"


def test_align_never_imports_align_eval() -> None:
    inside = [path for path in SOURCES if path.is_relative_to(ROOT / "align")]
    assert not [path for path in inside if any(m.split(".")[0] == "align_eval" for m in imports_of(path))]


def test_functional_knows_torch_alone() -> None:
    allowed = {"torch", "jaxtyping"} | sys.stdlib_module_names
    for path in (ROOT / "align/functional").glob("*.py"):
        strangers = [m for m in imports_of(path) if m.split(".")[0] not in allowed and "align.functional" not in m]
        assert not strangers, f"{path.name}: {strangers}"


def test_files_and_functions_stay_short() -> None:
    lines = {path: len(path.read_text().splitlines()) for path in [*SOURCES, *TESTS]}
    assert not {str(path): count for path, count in lines.items() if count > 300}
    for path in lines:
        for function in functions_of(path):
            length = (function.end_lineno or 0) - function.lineno
            assert length < 50, f"{path}: {function.name} has more than 50 lines"


def test_functions_have_few_parameters() -> None:
    for path in SOURCES:
        for function in functions_of(path):
            arguments = function.args
            names = [a.arg for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
            given = [name for name in names if name not in ("self", "cls", "ctx")]
            assert len(given) <= 6, f"{path}: {function.name} has {len(given)} parameters"


def words_of(tree: ast.AST) -> Iterator[str]:
    """Identifiers and texts that the program can act on: no comments, no docstrings."""
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if (
            isinstance(body, list)
            and body
            and isinstance(body[0], ast.Expr)
            and isinstance(body[0].value, ast.Constant)
        ):
            body[0].value.value = ""
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.arg | ast.keyword):
            yield node.arg or ""
        elif isinstance(node, ast.alias | Function | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


@pytest.mark.parametrize("path", LOOPS, ids=lambda path: str(path.relative_to(ROOT)))
def test_loops_never_name_a_method(path: Path) -> None:
    names = re.compile(rf"\b({'|'.join(method_names())})\b", re.IGNORECASE)
    named = [word for word in words_of(ast.parse(path.read_text())) if names.search(word)]
    assert not named, named


def test_loops_import_nothing_of_methods_but_the_base() -> None:
    common = {"align.methods.base", "align.methods.hooks", "align.methods.metrics"}
    for path in LOOPS:
        assert {m for m in imports_of(path) if m.startswith("align.methods")} <= common, path.name

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
FLOORS = {
    "errors": 0,
    **dict.fromkeys(("batches", "functional", "assets"), 1),
    **dict.fromkeys(("methods", "data", "models", "rollout"), 2),
    **dict.fromkeys(("rewards", "lab"), 3),
    **dict.fromkeys(("training", "report"), 4),
    "align_eval": 5,  # the second package reads what the reports of the first are made of
    "recipe": 5,
    "run": 6,
    "cli": 7,
}
ANNEXES = {
    "assembly": "run",
    "beginning": "run",
    "needs": "batches",
    "outside": "errors",
    "sums": "errors",
    "files": "errors",
    "terminal": "errors",
    "machine": "errors",
    "trees": "errors",
    "origins": "errors",
    "identity": "run",
    "chat": "run",
    "commands": "cli",
}  # what a top-level file has moved into a neighbour of its floor
SOURCES = sorted([*ROOT.glob("align/**/*.py"), *ROOT.glob("eval/**/*.py")])
TESTS = sorted(ROOT.glob("tests/**/*.py"))
Function = ast.FunctionDef | ast.AsyncFunctionDef


def name_of(path: Path) -> str:
    """`align/training/step.py` is `align.training.step`."""
    parts = path.relative_to(ROOT / "eval" if path.is_relative_to(ROOT / "eval") else ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room_of(module: str) -> str:
    """The part of the house: `align.training.step` is in `training`, `align.recipe.text` in `recipe`."""
    first, _, rest = module.partition(".")
    if first == "align_eval":
        return "cli" if rest in ("cli", "__main__") else first
    room = rest.split(".")[0]
    first = next((whole for whole in ("recipe", "assembly") if room.startswith(f"{whole}_")), room)
    return ANNEXES.get(first, first)


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
    rooms = {room_of(name_of(path)) for path in SOURCES} - {"", "__main__"}
    assert rooms <= FLOORS.keys(), f"on which floor do these stand? {sorted(rooms - FLOORS.keys())}"


def test_imports_go_down() -> None:
    wrong: list[str] = []
    for path in SOURCES:
        room = room_of(name_of(path))
        if room in ("", "__main__"):
            continue
        for module in filter(is_ours, imports_of(path)):
            other = room_of(module)
            if other not in {room, ""} and FLOORS.get(other, 9) >= FLOORS.get(room, 0):
                wrong.append(f"{name_of(path)} (floor {FLOORS.get(room)}) imports {module} (floor {FLOORS.get(other)})")
    assert not wrong, "\n".join(wrong)


def test_align_never_imports_align_eval() -> None:
    inside = [path for path in SOURCES if path.is_relative_to(ROOT / "align")]
    assert not [path for path in inside if any(m.split(".")[0] == "align_eval" for m in imports_of(path))]


def test_functional_knows_torch_alone() -> None:
    allowed = {"torch", "jaxtyping"} | sys.stdlib_module_names
    for path in (ROOT / "align/functional").glob("*.py"):
        strangers = [m for m in imports_of(path) if m.split(".")[0] not in allowed and "align.functional" not in m]
        assert not strangers, f"{path.name}: {strangers}"


@pytest.mark.parametrize("path", [*SOURCES, *TESTS], ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_functions_stay_short(path: Path) -> None:
    num_lines = len(path.read_text().splitlines())
    assert num_lines <= 300, f"{num_lines} lines"
    for function in functions_of(path):
        assert (function.end_lineno or 0) - function.lineno < 50, f"{function.name} has more than 50 lines"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_functions_have_few_parameters(path: Path) -> None:
    for function in functions_of(path):
        arguments = function.args
        names = [a.arg for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
        given = [name for name in names if name not in ("self", "cls", "ctx")]
        assert len(given) <= 6, f"{function.name} has {len(given)} parameters"


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


@pytest.mark.parametrize("path", sorted((ROOT / "align/training").glob("*.py")), ids=lambda path: path.name)
def test_loops_never_name_a_method(path: Path) -> None:
    names = re.compile(rf"\b({'|'.join(method_names())})\b", re.IGNORECASE)
    named = [word for word in words_of(ast.parse(path.read_text())) if names.search(word)]
    assert not named, named


def test_loops_import_nothing_of_methods_but_the_base() -> None:
    for path in (ROOT / "align/training").glob("*.py"):
        assert {m for m in imports_of(path) if m.startswith("align.methods")} <= {"align.methods.base"}, path.name

"""What code from outside depends on: the files of a module that a recipe names, and of all that it imports.

Found by reading, not by running: an import inside a function counts before it is reached. Libraries, the installed ones
and this package, are not followed; their versions are told elsewhere. What is imported by a name that is made while the
code runs is not seen.
"""

from __future__ import annotations

import ast
import sys
import sysconfig
from collections.abc import Iterator
from functools import cache
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path

from align.system.sums import sha256_of

HERE = Path(__file__).parents[1]
STANDARD = tuple(Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib"))


def code_of(name: str) -> dict[str, str]:
    """Module -> sha256 of its file, for a name like `package.module:attribute`; parents of a module are run, too.

    Of a package that is installed, its own modules.
    """
    first = name.partition(":")[0]
    home, waiting, found, seen = first.partition(".")[0], [first], dict[str, str](), set[str]()
    while waiting:
        module = waiting.pop()
        if module in seen:
            continue
        seen.add(module)
        waiting += [module.rpartition(".")[0]] if "." in module else []
        spec = _spec(module)
        file = Path(spec.origin) if spec is not None and spec.has_location and spec.origin else None
        if spec is None or file is None or not file.is_file() or _is_library(file, module, home):
            continue
        found[module] = sha256_of(file)
        if file.suffix == ".py":
            waiting += _imported(file, module, is_package=spec.submodule_search_locations is not None)
    return found


def _is_library(file: Path, module: str, home: str) -> bool:
    if file.resolve().is_relative_to(HERE):
        return True
    top, *below = module.split(".")
    if top == home:
        return False
    above = list(file.parents)[len(below) + (file.stem == "__init__") :]
    return any(file.resolve().is_relative_to(folder) for folder in STANDARD) or _is_installed(above[0])


@cache
def _is_installed(folder: Path) -> bool:
    """Whether installers have put packages here, and a note of each beside it."""
    return any(folder.glob("*.dist-info"))


def _spec(module: str) -> ModuleSpec | None:
    """Where a module is found, without importing anything."""
    loaded = getattr(sys.modules.get(module), "__spec__", None)
    if loaded is not None:
        return loaded
    parent = module.rpartition(".")[0]
    of_parent = _spec(parent) if parent else None
    if parent and (of_parent is None or of_parent.submodule_search_locations is None):
        return None
    try:
        return PathFinder.find_spec(module, list(of_parent.submodule_search_locations or ()) if of_parent else None)
    except (ImportError, KeyError, ValueError, OSError):  # KeyError: a namespace in an unloaded package
        return None


def _imported(file: Path, module: str, *, is_package: bool) -> Iterator[str]:
    """Names that may be modules; `from a import b` gives `a` and `a.b`."""
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = module.split(".")[: None if is_package else -1]
            above = parts[: len(parts) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield from (name for name in (base, *(f"{base}.{alias.name}" for alias in node.names)) if name)

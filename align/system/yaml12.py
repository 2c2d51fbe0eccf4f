"""YAML as in its version 1.2 where 1.1 surprises: `1e-6` is a number, `016` is 16 and `0o16` is 14, `no`, `on`, `1:30`
and `2020-01-01` are text. A key given twice is a mistake, as is `<<`: nothing is inherited. Text is written back in
quotes wherever either version would read it as something else.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

from align.system.trees import Shallow, bounded

ADVICE = "; use sys.set_int_max_str_digits() to increase the limit"  # Python's, on numbers of many digits


class _Loader(Shallow):
    """YAML 1.2's booleans and floats, and no key twice."""

    twice: list[tuple[str, int, int]]

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        first: dict[str, int] = {}
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):  # PyYAML refuses the others
            line = key.start_mark.line + 1
            if key.value in first:
                self.twice.append((str(key.value), first[key.value], line))
            first.setdefault(key.value, line)
        return super().construct_mapping(node, deep)


_CORE = ("null", "bool", "int", "float", "str", "seq", "map")  # all that YAML 1.2 knows by itself
_TAG = "tag:yaml.org,2002:"
_WORDS = {  # tag -> what is read as such without quotes, and the characters that it may begin with
    "bool": (r"true|True|TRUE|false|False|FALSE", "tTfF"),
    "int": (r"[-+]?\d[\d_]*|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    "float": (
        r"[-+]?(?:\d[\d_]*\.\d*|\.\d+|\d+(?=[eE]))(?:[eE][-+]?\d+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+0123456789.",
    ),
}


def _whole_number(loader: _Loader, node: yaml.ScalarNode) -> int:
    text = str(loader.construct_scalar(node)).replace("_", "")
    try:
        return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))
    except ValueError as error:
        raise yaml.constructor.ConstructorError(None, None, str(error).split(";")[0], node.start_mark) from None


def _foreign(loader: _Loader, node: yaml.Node) -> Any:
    finding = f"a recipe has no values of the kind {node.tag}"
    raise yaml.constructor.ConstructorError(None, None, finding, node.start_mark)


class _Dumper(yaml.SafeDumper):
    """Quotes what YAML 1.1 or our loader would not read as text."""


_Loader.yaml_implicit_resolvers = {  # nothing is null but what 1.1 reads as such, too
    first: [(tag, pattern) for tag, pattern in resolvers if tag == f"{_TAG}null"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _name, (_pattern, _first) in _WORDS.items():
    for _side in (_Loader, _Dumper):
        _side.add_implicit_resolver(_TAG + _name, re.compile(f"^(?:{_pattern})$"), list(_first))
_Loader.yaml_constructors = {f"{_TAG}{k}": yaml.SafeLoader.yaml_constructors[f"{_TAG}{k}"] for k in _CORE}
_Loader.add_constructor(f"{_TAG}int", _whole_number)
_Loader.yaml_constructors[None] = _foreign


def to_yaml(value: Any) -> str:
    """Plain values as YAML, which `parse` reads as the same values."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


def parse(text: str) -> tuple[Any, list[tuple[str, int, int]]]:
    """The values, and (key, first line, second line) of every key that stands twice in one mapping.

    Raises yaml.YAMLError, also for a number with more digits than Python reads.
    """
    loader = _Loader(text)
    loader.twice = []
    try:
        return bounded(loader.get_single_data()), loader.twice
    except RecursionError:
        raise yaml.YAMLError("nested too deeply") from None
    except ValueError as error:
        raise yaml.YAMLError(str(error).removesuffix(ADVICE)) from None
    finally:
        loader.dispose()


def one_line(error: Exception) -> str:
    """YAML's complaint with its line; others' as they are."""
    mark = getattr(error, "problem_mark", None)
    if isinstance(error, yaml.MarkedYAMLError) and mark is not None:
        while_doing = f" {error.context}" if error.context else ""
        return f"line {mark.line + 1}, column {mark.column + 1}: {error.problem}{while_doing}"
    if isinstance(error, UnicodeDecodeError):
        line = error.object[: error.start].count(b"\n") + 1
        return f"line {line}: byte 0x{error.object[error.start]:02x} is not UTF-8; save the file as UTF-8"
    return " ".join(str(error).split())

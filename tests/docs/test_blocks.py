"""What the documents tell people to type: commands that there are, recipes that pass, rows that are read."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from doc_blocks import COMMANDS, DOCUMENTS, ROOT, Block, blocks, command_of, documents, options_of, shell_lines

from align.cli.main import main
from align.data.reading.rows import RowReader
from align.judges.named import read_spec
from align.methods.base import find_method, method_names
from align.recipe.load import ONLINE, OWNERS, load_recipe
from align.recipe.text import Written, recipe_names
from align.recipe.types import build
from docs.generate.settings import keys
from tests.bench import docs_study

SHELL = [*blocks("bash"), *(b for b in blocks("") if b.text.startswith("align "))]  # some documents name no language
WORD = re.compile(r"([a-z_]+(?:\.\w+)+)=(.*)")  # KEY=VALUE of a recipe
SPAN = re.compile(r"`(align(?:-eval)? [^`\n]+)`")
OWN = ("RECIPE", "RUN", "check my.yaml", "data my.yaml", "plan my.yaml", "polite.yaml", "FILE", "/shared")
CHEAP = ("align check", "align methods", "align plan", "align init dpo", "align data", "align translate -o")
DRY = ("align launch slurm", "align sweep")


def lines(*programs: str) -> list[tuple[Block, list[str]]]:
    return [(b, words) for b in SHELL for words in shell_lines(b.text) if words[0] in programs]


def test_there_are_lines_to_look_at() -> None:
    assert len(lines("align")) > 25
    assert len(lines("align-eval")) > 15
    programs = {words[0] for b in SHELL for words in shell_lines(b.text)}
    assert programs <= {"align", "align-eval", "make", "pip", "python", ".", "ALIGN_DEBUG=1"}


@pytest.mark.parametrize("program", COMMANDS)
def test_commands_and_their_options_exist(program: str) -> None:
    for block, words in lines(program):
        found = command_of(words)
        assert found is not None, f"{block}: {' '.join(words)}: no such command"
        command, rest = found
        rest = rest[: rest.index("--")] if "--" in rest else rest
        given = {word.split("=")[0] for word in rest if word.startswith("-")}
        assert given <= options_of(command), f"{block}: {' '.join(words)}: {given - options_of(command)}"


def test_commands_in_a_line_of_text_exist() -> None:
    """Such as `align check --all`; what is in capitals stands for something of the reader's."""
    spans = [(path, words) for path in documents() for words in SPAN.findall(path.read_text(encoding="utf-8"))]
    assert len(spans) > 50
    for path, span in spans:
        words = span.split()
        found = command_of(words)
        assert found is not None or words[1].isupper(), f"{path.name}: `{span}`"
        if found is not None:
            given = {word.split("=")[0] for word in words[1:] if word.startswith("-")}
            assert given <= {*options_of(found[0]), "--debug", "--version"}, f"{path.name}: `{span}`"


def test_recipes_and_keys_exist() -> None:
    for block, words in lines("align"):
        found = command_of(words)
        assert found is not None
        command, rest = found
        if command.name in ("translate", "pipeline"):
            continue
        knobs = {f"method.{k}" for name in method_names() for k in find_method(name).__dataclass_fields__}
        for word in rest:
            if match := WORD.fullmatch(word):
                assert match[1] in {*keys(), *knobs}, f"{block}: {word}"
        names = [word for word in rest[:1] if re.fullmatch(r"[a-z_0-9]+", word)]
        assert all(name in {*recipe_names(), *method_names()} for name in names), f"{block}: {' '.join(words)}"


def test_targets_of_make_and_extras_of_pip_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for block, words in lines("make"):
        assert all(re.search(rf"^{word}:", makefile, re.MULTILINE) for word in words[1:] if "=" not in word), block
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for block, words in lines("pip"):
        asked = [extra for word in words for found in re.findall(r"\[(.*)\]", word) for extra in found.split(",")]
        assert set(asked) <= set(extras), block


def tried() -> list[list[str]]:
    """Lines on what comes with the package that only look, or would do so with --dry-run, which they are given."""
    found: set[tuple[str, ...]] = set()
    for _, words in lines("align"):
        line = " ".join(words)
        if any(name in line for name in OWN):  # that stand for something of the reader's
            continue
        if line.startswith(CHEAP):
            found.add(tuple(words[1:]))
        elif line.startswith(DRY) and "dpo" in words:
            found.add(tuple(dict.fromkeys((*words[1:], "--dry-run"))))
    return sorted(map(list, found))


def test_lines_that_only_look_do_as_they_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                             capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert len(tried()) > 10
    for words in tried():
        mistaken = any("training.lr" in word for word in words)
        Path("my.yaml").unlink(missing_ok=True)
        assert main(words) == (2 if mistaken else 0), (words, capsys.readouterr().err)
    capsys.readouterr()


def test_every_line_has_been_typed() -> None:
    done = docs_study.read()
    for line in docs_study.lines():
        assert line in done, f"nobody has typed it: make study-docs: {line}"
        assert done[line]["typed"] == docs_study.typed(line), line
        assert docs_study.good(line, done[line]["code"]), line
    assert done.keys() == set(docs_study.lines())


def test_documents_lead_to_files_that_there_are() -> None:
    for name in (*DOCUMENTS, "SECURITY.md", "STUDIES.md"):
        text = (ROOT / name).read_text(encoding="utf-8")
        for link in re.findall(r"\]\((?!https?:|#)([^)#\s]+)", text):
            assert (ROOT / name).parent.joinpath(link).exists(), f"{name}: {link}"


def test_pages_name_files_that_there_are() -> None:
    path = re.compile(r"`((?:align|eval|launch|notebooks|recipes|tests)/[\w/.]+\w)`")
    for page in ROOT.glob("docs/pages/**/*.md"):
        for name in path.findall(page.read_text(encoding="utf-8")):
            assert (ROOT / name).exists(), f"{page.name}: {name}"


# ---- what is printed ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", [b for b in blocks("text") if b.text.startswith("$ align")], ids=str)
def test_what_a_command_is_said_to_answer_it_answers(block: Block, capsys: pytest.CaptureFixture[str]) -> None:
    first, _, answer = block.text.partition("\n")
    assert main(first.split()[2:]) == 2
    assert capsys.readouterr().err.strip() == answer.strip()


def test_the_row_that_the_first_hour_shows_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    (block,) = (b for b in blocks("text") if b.text.startswith("asset:polite_pairs"))
    assert main(["data", "dpo", "--count", "1"]) == 0
    assert block.text in capsys.readouterr().out


# ---- YAML -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", blocks("yaml"), ids=str)
def test_yaml_is_a_recipe_or_a_part_of_one(block: Block, tmp_path: Path) -> None:
    found: dict[str, Any] = yaml.safe_load(block.text)
    if "judges" in found:
        (file := tmp_path / "panel.yaml").write_text(block.text)
        assert read_spec(str(file), {}) is not None
    elif {"method", "data", "training"} <= found.keys() and "asset:" in block.text:
        (file := tmp_path / "mine.yaml").write_text(block.text)
        assert load_recipe(file).method_name == found["method"]["name"]
    elif "stages" not in found:
        written = Written(str(block), found)
        for section, values in found.items():
            if section == "method":
                build(written, section, find_method(values.pop("name")), values)
            else:
                build(written, section, (OWNERS | ONLINE)[section], values)
        assert not written.mistakes


# ---- JSON -----------------------------------------------------------------------------------------------------------


def rows() -> list[Any]:
    """Each example of a row with the heading under which it stands."""
    page = (ROOT / "docs/pages/data.md").read_text(encoding="utf-8")
    parts = re.split(r"^## (\w+)$", page, flags=re.MULTILINE)
    found = [(kind, text) for kind, part in zip(parts[1::2], parts[2::2], strict=True)
             for text in re.findall(r"```json\n(.*?)```", part, re.DOTALL)]  # fmt: skip
    return [pytest.param(kind, json.loads(text), id=f"{kind}-{i}") for i, (kind, text) in enumerate(found)]


@pytest.mark.parametrize(("kind", "row"), rows())
def test_a_row_that_is_shown_is_read(kind: Any, row: dict[str, Any]) -> None:
    (read,) = RowReader(kind=kind, numbers=("label",)).read(row)
    assert len(read.completions) == {"pairs": 2, "prompts": 0}.get(kind, 1)
    assert not read.told or "begin with" in read.told[0]


def test_every_kind_of_row_is_shown() -> None:
    assert {parameter.values[0] for parameter in rows()} == {"demonstrations", "pairs", "unpaired", "prompts"}


# ---- Python ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", blocks("python"), ids=str)
def test_python_is_python(block: Block) -> None:
    compile(block.text, str(block), "exec")


@pytest.mark.parametrize("page", ["tools", "python", "evaluation"])
def test_the_lines_of_a_page_run(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for block in blocks("python"):
        if block.file == f"docs/pages/{page}.md":
            exec(compile(block.text, str(block), "exec"), {})


def test_the_rewards_of_their_page_judge() -> None:
    found: dict[str, Any] = {}
    for block in blocks("python"):
        if block.file == "docs/pages/reward.md":
            exec(compile(block.text, str(block), "exec"), found)
    assert found["short"](["a", "a"], ["b", "c d"], completion_ids=[[1], [1, 2]]) == [-0.01, -0.02]
    assert found["Reward"](words=1)(["a", "a"], ["b", "c d"]) == [1.0, 0.0]
    assert found["longest"](["a", "a"], ["b", "c d"]) == [0.0, 1.0]

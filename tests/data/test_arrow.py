"""What Arrow does to rows: each has the keys of all rows, with null, which nobody may learn to write."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from transformers import AutoTokenizer

from align import assets
from align.cli.main import main
from align.data.prepare import Splits, prepare
from align.data.settings import DataSection

CALLS = """\
{{- 'TOOLS ' + (tools | tojson) + '\\n' }}{% for m in messages %}{{ '<' + m.role + '>' + m.content }}
{%- if m.tool_calls %}{% for c in m.tool_calls %}{{ c.function.arguments | tojson }}{% endfor %}{% endif %}
{%- if m.role == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}
{%- if add_generation_prompt %}{{ '<assistant>' }}{% endif %}"""


def row(question: str, tool: str, arguments: dict[str, Any], kind: str) -> dict[str, Any]:
    call = {"type": "function", "function": {"name": tool, "arguments": arguments}}
    shape = {"type": "object", "properties": {name: {"type": kind} for name in arguments}}
    said = {"role": "assistant", "content": "", "tool_calls": [call]}
    tools = [{"type": "function", "function": {"name": tool, "parameters": shape}}]
    return {"messages": [{"role": "user", "content": question}, said], "tools": tools}


ROWS = [
    row("Weather?", "weather", {"city": "Rome"}, "string"),
    row("Sum?", "add", {"a": 1, "b": 2}, "integer"),
]


@pytest.fixture(scope="module")
def stories() -> Any:
    return AutoTokenizer.from_pretrained(Path(assets.__file__).parent / "stories260k")


def made(source: Path, tokenizer: Any, **changes: Any) -> Splits:
    section = DataSection(train=str(source), chat_template=str(source.parent / "calls.jinja"), **changes)
    return prepare(section, "demonstrations", (), tokenizer, source.parent / "cache")


def texts(splits: Splits, tokenizer: Any) -> list[str]:
    members = [group.members[0] for group in splits.train]
    return [tokenizer.decode([*m.prompt, *m.completion]) for m in members]


@pytest.mark.parametrize("columns", [{}, {"messages": "talk", "tools": "known"}])
def test_tools_of_other_rows_leave_no_nulls(columns: dict[str, str], stories: Any, tmp_path: Path) -> None:
    (tmp_path / "calls.jinja").write_text(CALLS)
    rows = [{columns.get(k, k): v for k, v in row.items()} for row in ROWS]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    found = [texts(made(tmp_path / f"a.{kind}", stories, columns=columns), stories) for kind in ("jsonl", "parquet")]
    assert found[0] == found[1]
    assert '{"city": "Rome"}' in found[1][0]
    assert "null" not in "".join(found[1])


def test_a_null_that_json_writes_is_meant(stories: Any, tmp_path: Path) -> None:
    (tmp_path / "calls.jinja").write_text(CALLS)
    (tmp_path / "a.jsonl").write_text(json.dumps(row("Weather?", "weather", {"city": None}, "string")) + "\n")
    assert '{"city": null}' in texts(made(tmp_path / "a.jsonl", stories), stories)[0]


def numbered(count: int, name: str) -> list[dict[str, Any]]:
    return [{"prompt": f"{name} {i}?", "completion": f"{i}."} for i in range(count)]


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A folder of several splits."""
    datasets = pytest.importorskip("datasets")
    made = {name: datasets.Dataset.from_list(numbered(n, name)) for name, n in (("train", 12), ("test", 5))}
    made["train"] = made["train"].select(range(9))
    datasets.DatasetDict(made).save_to_disk(str(tmp_path / "saved"))
    return tmp_path / "saved"


def test_a_saved_folder_gives_each_part_of_the_recipe_its_own_split(saved: Path, stories: Any, tmp_path: Path) -> None:
    section = DataSection(train=str(saved), test=str(saved), validation=f"{saved}/test")
    splits = prepare(section, "demonstrations", (), stories, tmp_path / "cache")
    assert [len(s) for s in (splits.train, splits.validation, splits.test)] == [9, 5, 5]
    assert "test 0?" in stories.decode(splits.test[0].members[0].prompt)
    assert splits.test.counts.shared_prompts == 0


def test_check_counts_a_saved_folder_and_tells_the_splits_it_lacks(
    saved: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["check", "sft", f"data.train={saved}", f"data.test={saved}", "data.columns=null"]
    assert main([*words, f"data.validation={saved}"]) == 2
    told = capsys.readouterr().err
    assert f"data.validation: {saved}: no split validation; there are train, test. A split is named as {saved}/" in told
    assert main([*words, "data.validation=0", "training.eval_steps=0"]) == 0
    assert "epochs of about 9 rows" in capsys.readouterr().out

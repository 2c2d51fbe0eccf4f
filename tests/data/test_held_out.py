"""Prompts of a split as text: those, and no others, that prepared rows of that split hold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from align.data.held_out import prompts_of
from align.data.prepare import prepare
from align.data.settings import DataSection, DataSource

ASSETS = Path(__file__).parents[2] / "align" / "assets"


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_they_are_those_of_the_prepared_rows(tmp_path: Path) -> None:
    """By hash out of a mixture, of which one source names its columns otherwise; a row of two is one prompt."""
    rows = [{"prompt": f"Q{i}", "chosen": "good", "rejected": "bad"} for i in range(300)]
    others = [{"q": f"R{i}", "chosen": "good", "rejected": "bad" if i else "good"} for i in range(300)]
    section = DataSection(
        train=[DataSource(source=write(tmp_path / "a.jsonl", [*rows, *rows[:50]])),
               DataSource(source=write(tmp_path / "b.jsonl", others), columns={"prompt": "q"})],
        validation=0.2, test=0.1, bad_rows="drop",
    )  # fmt: skip
    tokenizer = AutoTokenizer.from_pretrained(ASSETS / "stories260k")
    stores = prepare(section, "pairs", (), tokenizer, tmp_path / "cache").stores
    for split in ("validation", "test"):
        found = prompts_of(section, "pairs", split)
        prompts = {tokenizer.decode(row.members[0].prompt, skip_special_tokens=True) for row in stores[split]}
        assert prompts == set(found.texts.values())
        assert found.unusable == 1
    assert len(prompts_of(section, "pairs", "validation").texts) == pytest.approx(120, abs=30)


def test_of_a_file_of_their_own(tmp_path: Path) -> None:
    """A conversation loses its answer; tools are counted, and what has no prompt."""
    asked = [{"role": "user", "content": "Why?"}]
    train = write(tmp_path / "t.jsonl", [{"text": "x"}])
    rows = [{"messages": [*asked, {"role": "assistant", "content": "So."}], "tools": [{"name": "f"}]}, {"text": "bare"}]
    section = DataSection(train=train, test=write(tmp_path / "v.jsonl", rows))
    found = prompts_of(section, "demonstrations", "test")
    assert list(found.texts.values()) == [asked]
    assert (found.bare, found.tools, found.unusable) == (1, 1, 0)

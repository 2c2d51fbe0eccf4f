"""A model's folder that writes texts: the same as transformers' own greedy search, whatever is written beside it."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from align.data.reading.messages import BadRow
from align.errors import UserError
from align.models.generate import continued
from align.models.sources import resolve
from align.rollout.folder import FolderWriter, Style, identity_of
from align.rollout.policy_engine import text_of

STORIES = "asset:stories260k"
PROMPTS = ["Once upon a time", "Lily saw a big", "The"]


@pytest.fixture(scope="module")
def writer() -> FolderWriter:
    return FolderWriter(STORIES, batch_size=2)


def test_greedy_is_transformers_own(writer: FolderWriter) -> None:
    ids = [writer.ids(prompt) for prompt in PROMPTS]
    found = writer.write(ids, [(0,)] * 3, Style(max_new_tokens=12))
    for prompt, (said,) in zip(ids, found, strict=True):
        expected = continued(writer._model, writer.tokenizer, prompt.tolist(), 12)
        assert said.text == text_of(writer.tokenizer, expected)
        assert (said.stop, said.num_tokens) == ("length", 12)


def test_a_draw_depends_on_its_seed_alone(writer: FolderWriter) -> None:
    ids, style = [writer.ids(prompt) for prompt in PROMPTS], Style(max_new_tokens=8, temperature=1.0)
    together = writer.write(ids, [(1, 2), (1,), (3,)], style)
    assert together[0][0] != together[0][1]
    assert writer.write(ids[:1], [(2,)], style)[0][0] == together[0][1]


def test_a_stop_string_ends_it(writer: FolderWriter) -> None:
    ((said,),) = writer.write([writer.ids(PROMPTS[0])], [(0,)], Style(max_new_tokens=40, stop_strings=(".",)))
    assert said.stop == "stop_string"
    assert said.text.endswith(".")


def test_what_is_too_long_is_refused(writer: FolderWriter) -> None:
    with pytest.raises(BadRow, match="there is room for"):
        writer.write([np.ones(writer.context, dtype=np.int32)], [(0,)], Style(max_new_tokens=1))


def test_who_writes_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        FolderWriter(str(tmp_path / "nothing"))
    (tmp_path / "config.json").write_text('{"architectures": ["LlamaForSequenceClassification"]}')
    with pytest.raises(UserError, match="is a reward model"):
        FolderWriter(str(tmp_path))


def test_identity_is_of_content(tmp_path: Path) -> None:
    shutil.copytree(resolve(STORIES), tmp_path / "copy")
    assert identity_of(str(tmp_path / "copy")) == identity_of(STORIES)
    (tmp_path / "copy/generation_config.json").write_text('{"eos_token_id": 7}')
    assert identity_of(str(tmp_path / "copy"))["files"] != identity_of(STORIES)["files"]

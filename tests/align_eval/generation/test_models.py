"""What the word behind --model means."""

from __future__ import annotations

from pathlib import Path

import pytest

from align_eval.generation.models import models_of, named
from align_eval.generation.settings import Settings


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("before=asset:stories260k", ("before", "asset:stories260k")),
        ("org/name-1=asset:stories260k", ("org/name-1", "asset:stories260k")),
        ("<b>=gold", ("<b>", "gold")),
        ("asset:stories260k", ("stories260k", "asset:stories260k")),
        ("http://host:8000/v1?key=1#M", ("http://host:8000/v1?key=1#M", "http://host:8000/v1?key=1#M")),
        ("m=http://host:8000/v1#M", ("m", "http://host:8000/v1#M")),
    ],
)
def test_a_name_stands_before_the_first_equals_sign(word: str, meant: tuple[str, str]) -> None:
    assert named(word) == meant


def test_a_folder_may_have_one_in_its_name(tmp_path: Path) -> None:
    (tmp_path / "rate=3e-4").mkdir()
    assert named(str(tmp_path / "rate=3e-4")) == ("rate=3e-4", str(tmp_path / "rate=3e-4"))


def test_answers_that_are_there_get_a_name(tmp_path: Path) -> None:
    (tmp_path / "mine.jsonl").write_text("")
    (model,) = models_of([f"org/mine={tmp_path}/mine.jsonl"], Settings())
    assert model.name == "org/mine"

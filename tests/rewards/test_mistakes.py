"""What is told of reward functions before anything is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from align.errors import UserError
from align.rewards.base import find_reward

FILE = """
def good(completions, **columns):
    return [0.0] * len(completions)

def noargs():
    return []

def narrow(prompts, completions):
    return []
"""


@pytest.mark.parametrize(
    ("name", "settings", "told"),
    [
        ("mine:noargs", {}, "unexpected keyword argument 'prompts'; it is called with prompts, completions"),
        ("mine:narrow", {}, r"'completion_ids'; .* write def f\(prompts, completions, \*\*columns\)"),
        ("mine.good", {}, "no such reward: mine.good; did you mean mine:good"),
        ("mine.py:good", {}, "leave out .py: mine:good"),
        ("broken:good", {}, "broken imports no_such_package, which is not installed here"),
        ("mine:goood", {}, "has no attribute 'goood'; .* importable from here. Did you mean good"),
        ("nowhere:good", {}, "No module named 'nowhere'; write package.module:function"),
        ("learned", {}, "misses the setting model; write settings: {model: ...}"),
        ("learned", {"modle": "x"}, "no such setting: modle; it has model, batch_size. Did you mean model"),
    ],
)
def test_it_is_told_with_its_cure(
    name: str, settings: dict[str, str], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "mine.py").write_text(FILE)
    (tmp_path / "broken.py").write_text("import no_such_package\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert find_reward("mine:good", {})
    with pytest.raises(UserError, match=told):
        find_reward(name, settings)

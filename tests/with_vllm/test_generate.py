"""A real vLLM server that answers items, as an endpoint and as the engine of a folder: what the model itself writes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from with_vllm.conftest import COMMAND, EAGER, Served
from with_vllm.test_engine import BEGINNINGS

from align_eval.cli import main
from align_eval.records import Answer
from align_eval.store import read_answers

ROUNDING = 1e-3  # of the log-probability of a choice
GREEDY = ["max_completion_length=24", "form=text"]
CHOICES = """\
name: pick
version: 1
rows: openings.jsonl
prompt: "{{ prompt }}"
reference: " was"
mode: choose
choices: "[' was', ' went', ' and']"
gap: ""
score: {by: choice}
headline: accuracy
"""


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    path = tmp_path / "openings.jsonl"
    path.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in BEGINNINGS))
    return path


@pytest.fixture
def there(served: Served) -> str:
    """The server with the weights of `wide`, as an endpoint."""
    served.push()
    return f"{served.server.client.url.rstrip('/')}/v1#{served.server.model}"


def answers(task: Path, model: str, out: Path, *words: str) -> dict[str, Answer]:
    assert main(["generate", str(task), "--model", f"x={model}", "--out", str(out), *words]) == 0
    return {answer.item: answer for answer in read_answers(out)}


def test_an_endpoint_writes_what_the_model_does(prompts: Path, there: str, wide: Path, tmp_path: Path):
    ours, theirs = (answers(prompts, who, tmp_path / name, *GREEDY) for name, who in (("a", str(wide)), ("b", there)))
    assert len(ours) == len(theirs) == len(BEGINNINGS)
    for item, mine in ours.items():
        other = theirs[item]
        assert mine.text.lstrip() == other.text.lstrip()  # it keeps the first blank
        assert (mine.stop, mine.num_tokens) == (other.stop, other.num_tokens)
        assert mine.columns["prompt_tokens"] == other.columns["prompt_tokens"]
        assert other.columns["served"]


def test_an_endpoint_chooses_as_the_model_does(prompts: Path, there: str, wide: Path, tmp_path: Path):
    task = tmp_path / "pick.yaml"
    task.write_text(CHOICES)
    ours = answers(task, str(wide), tmp_path / "a", "form=text")
    theirs = answers(task, there, tmp_path / "b", "form=text")
    assert len(ours) == len(BEGINNINGS)
    assert ours.keys() == theirs.keys()
    for item, other in theirs.items():
        mine = ours[item]
        assert mine.text == other.text
        assert mine.columns["tokens"] == other.columns["tokens"]
        assert mine.columns["logps"] == pytest.approx(other.columns["logps"], abs=ROUNDING)


def test_a_server_that_is_started_writes_what_the_model_does(prompts: Path, wide: Path, tmp_path: Path):
    own = ["engine=vllm", f"vllm_command={COMMAND}", f"vllm_arguments=[{EAGER}, --block-size, '32']"]
    ours, theirs = (answers(prompts, str(wide), tmp_path / n, *GREEDY, *more) for n, more in (("a", []), ("b", own)))
    told = [{item: (a.text, a.stop, a.num_tokens) for item, a in found.items()} for found in (ours, theirs)]
    assert told[0] == told[1]
    assert len(ours) == len(BEGINNINGS)

"""Columns that rewards read: told before training where the data lack them, None where some rows do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mistakes import dump

from align.cli.main import main
from align.rewards.base import Sample, call, find_reward
from align.rewards.columns import LOOKED_AT, misfit, misfits

FILE = '''
def free(prompts, completions, **columns):
    return [float(len(columns)) for _ in completions]

def asks(prompts, completions, completion_ids, answer):
    return [None if a is None else float(a) for a in answer]

def may(prompts, completions, completion_ids, answer=None, **columns):
    return [0.0] * len(completions)

def talk(prompt, text):
    return None

def cut(text, columns):
    return [0, len(text)]
'''


@pytest.fixture(autouse=True)
def here(own_module: Callable[[str, str], None]) -> None:
    own_module("columned", FILE)


@pytest.mark.parametrize(
    ("name", "settings", "columns", "told"),
    [
        ("columned:free", {}, ["prompt"], ""),
        ("columned:may", {}, ["prompt", "other"], ""),
        ("columned:asks", {}, ["prompt", "other", "answer"], ""),
        (
            "columned:asks", {}, ["prompt", "anwser"],
            "its argument answer is no column; a.jsonl has anwser; where only some rows have it, write answer=None. "
            "Did you mean anwser?",
        ),
        ("columned:asks", {}, ["prompt"], "its argument answer is no column; a.jsonl has none beside prompt; where "
         "only some rows have it, write answer=None."),
        ("columned:free", {}, ["prompt", "completions"], "a.jsonl has a column completions, as an argument of every "
         "reward is called; give it another name there"),
        (
            "math_answer", {"symbolic": False}, ["prompt", "answers"],
            "needs the column answer; a.jsonl has answers; name another with settings: {column: ...}. "
            "Did you mean answers?",
        ),
        ("math_answer", {"symbolic": False, "column": "gold"}, ["prompt", "gold"], ""),
        ("contains", {"column": "words"}, ["prompt", "text"], "needs the column words; a.jsonl has text; name another "
         "with settings: {column: ...}."),
        ("contains", {"words": ["a"]}, ["prompt"], ""),
        ("length", {"target": 4}, ["prompt"], ""),
    ],
)  # fmt: skip
def test_what_a_function_misses(name: str, settings: dict[str, Any], columns: list[str], told: str):
    assert misfit(find_reward(name, settings), columns, "a.jsonl") == told


def test_a_column_of_one_of_the_first_rows_is_there():
    asks = find_reward("columned:asks", {})

    def finding(columns: Any, whose: str) -> str:
        return misfit(asks, columns, whose)

    assert misfits({"f": finding}, [["prompt"], ["prompt", "answer"]], "it") == {}
    assert "answer" in misfits({"f": finding}, [["prompt"]] * LOOKED_AT + [["answer"]], "it")["f"]


def samples(*columns: dict[str, Any]) -> list[Sample]:
    return [Sample(prompt="p", completion="c", completion_ids=[1], columns=c) for c in columns]


def test_where_no_row_of_a_call_has_a_column_it_is_none_and_others_are_not_forced_upon_a_function():
    asks = find_reward("columned:asks", {})
    assert call("asks", asks, samples({"other": 1}, {})) == [None, None]
    assert call("asks", asks, samples({"other": 1}, {"answer": 2})) == [None, 2.0]
    found = call("free", find_reward("columned:free", {}), samples({"other": 1}, {"answer": 2}))
    assert found == [3.0, 3.0], "completion_ids among them"


def recipe(**sections: Any) -> str:
    rollout = {"num_generations": 2, "max_completion_length": 4, **sections.pop("rollout", {})}
    text = f"""
method: {{name: {sections.pop("method", "rloo")}}}
model: {{model_name_or_path: "asset:stories260k"}}
data: {{train: rows.jsonl, validation: held.jsonl}}
rollout: {rollout}
reward: {{functions: {sections.pop("functions")}}}
training: {{batch_size: 2, max_steps: 1, output_dir: run}}
logging: {{num_completions: 0}}
"""
    Path("r.yaml").write_text(text)
    return "r.yaml"


def test_check_tells_all_of_it(capsys: pytest.CaptureFixture[str]):
    dump("rows.jsonl", *({"prompt": f"Once {i}", "gold": i} for i in range(4)))
    dump("held.jsonl", {"prompt": "Twice"})
    functions = "['columned:free', 'columned:asks', {name: math_answer, settings: {symbolic: false, column: gold}}]"
    assert main(["check", recipe(functions=functions)]) == 2
    told = capsys.readouterr().err
    assert "reward.functions.0" not in told
    assert "reward.functions.1: its argument answer is no column; rows.jsonl has gold; " in told
    assert "reward.functions.2: needs the column gold; held.jsonl has none beside prompt; name another" in told
    words = recipe(method="scaf_grpo", functions="['columned:free']", rollout={"environment": "columned:talk"})
    assert main(["check", words]) == 2
    told = capsys.readouterr().err
    assert "data.train: rows.jsonl has no column hints, which the method tells where completions fail" in told
    assert "rollout.environment: too many positional arguments; it is called as f(prompt, text, columns)" in told
    words = recipe(method="vineppo", functions="['columned:free']", rollout={"steps": "columned:cut"})
    assert main(["check", words]) == 2
    assert "missing a required argument: 'columns'; it is called as f(text)" in capsys.readouterr().err


def test_training_does_not_begin_where_check_could_not_look(capsys: pytest.CaptureFixture[str]):
    import datasets

    for name in ("rows.jsonl", "held.jsonl"):
        datasets.Dataset.from_list([{"prompt": f"Once {i}", "gold": i} for i in range(4)]).save_to_disk(f"{name}.d")
    text = Path(recipe(functions="['columned:asks']")).read_text().replace(".jsonl", ".jsonl.d")
    Path("r.yaml").write_text(text)
    assert main(["check", "r.yaml"]) == 0
    capsys.readouterr()
    assert main(["train", "r.yaml"]) == 2
    told = capsys.readouterr().err
    assert "reward asks: its argument answer is no column; data.train has gold; " in told
    assert "data.validation has gold" in told

"""Column addition: what the rewards teach a policy whose teacher forgot to carry, through the real command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from small_runs import told, train
from transformers import AutoTokenizer

from align.data.reading.sources import resolve
from align.lab import addition

ASSETS = Path(addition.__file__).parents[1] / "assets"
START, END = (0.25, 0.35), 0.9  # share of 256 held-out sums that the likeliest completion gets right
RUNS = {
    "ppo": ["training.max_steps=32", "rollout.num_prompts=128", "rollout.num_iterations=2"],
    "grpo": ["training.max_steps=20"],
}
BRIEF = ("training.num_train_epochs=null", "training.eval_steps=0")


@pytest.mark.parametrize("name", RUNS)
def test_rewards_teach_to_carry(name: str, tmp_path: Path):
    out = train("addition", tmp_path / name, f"method.name={name}", *BRIEF, *RUNS[name])
    found = told(out / "test.json")
    before, after = (result["reward"]["value"] for result in (found["before"], found))
    assert START[0] < before < START[1]
    assert after > END


@pytest.mark.parametrize(("first", "second"), [(47, 85), (0, 0), (99, 99), (5, 7), (90, 10)])
def test_a_right_solution_states_the_sum(first: int, second: int):
    assert addition.answer(addition.solution(first, second)) == first + second


def test_a_forgotten_carry_is_a_wrong_sum():
    assert addition.solution(47, 85) == "2131"
    assert addition.solution(47, 85, (True, False)) == "2021"
    assert [addition.answer(text) for text in ("2021", "2130", "213", "21310", "2x31", "")] == [122, 32, *[None] * 4]


def test_the_shipped_rows_are_those_of_the_code(tmp_path: Path):
    addition.main(str(tmp_path), str(tmp_path))
    for name in addition.ROWS:
        asked = resolve(f"asset:addition/{name}.jsonl")
        assert asked is not None
        assert asked.read_bytes() == (tmp_path / f"{name}.jsonl").read_bytes()
    made = json.loads((tmp_path / "tokenizer.json").read_text())
    assert made == json.loads((ASSETS / "careless_adder" / "tokenizer.json").read_text())


def test_the_tokenizer_gives_back_what_it_is_given():
    tokenizer = AutoTokenizer.from_pretrained(ASSETS / "careless_adder")
    ids = tokenizer("47+85=2131").input_ids
    assert len(ids) == 10
    assert tokenizer.decode(ids) == "47+85=2131"


def test_no_problem_is_in_both_files():
    made = addition.rows()
    assert not {row["prompt"] for row in made["train"]} & {row["prompt"] for row in made["test"]}
    assert all(addition.answer(row["completion"]) == row["total"] for row in made["test"])

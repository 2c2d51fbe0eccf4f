"""Rows as the projects' documents describe them, and what they become."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from recorded import lines

from align.errors import UserError
from align_eval.formats.base import Found, Names
from align_eval.formats.table import FORMATS, format_of


def read(name: str, path: Path, *rows: dict[str, Any], names: Names | None = None) -> Found:
    return format_of(name).read([lines(path, rows)], names or Names())


# ---- AlpacaEval -----------------------------------------------------------------------------------------------------

ANNOTATION = {
    "instruction": "Name a colour.", "output_1": "Red", "generator_1": "base", "output_2": "Blue",
    "generator_2": "tuned", "dataset": "helpful_base", "annotator": "gpt4", "preference": 1.75,
    "raw_completion": {"text": "m"}, "price_per_example": 0.01,
}  # fmt: skip


def test_a_preference_between_1_and_2_is_a_weight_for_the_second(tmp_path: Path) -> None:
    found = read("alpaca_eval", tmp_path / "a.jsonl", ANNOTATION)
    verdict = found.verdicts[0]
    assert (verdict.models, verdict.score, verdict.judge) == (("base", "tuned"), 0.25, "gpt4")
    assert verdict.raw == '{"text": "m"}'
    assert verdict.columns == {"price_per_example": 0.01, "ordered": False}
    assert {(a.model, a.text) for a in found.answers} == {("base", "Red"), ("tuned", "Blue")}
    assert (found.items[0].prompt, found.items[0].category) == ("Name a colour.", "helpful_base")
    assert found.losses["verdicts do not say which output was shown first"] == 1


@pytest.mark.parametrize(("preference", "score"), [(1, 1.0), (2, 0.0), (1.5, 0.5), (0, 0.5), (None, None)])
def test_preferences(tmp_path: Path, preference: float | None, score: float | None) -> None:
    verdict = read("alpaca_eval", tmp_path / "a.jsonl", {**ANNOTATION, "preference": preference}).verdicts[0]
    assert verdict.score == score
    assert bool(verdict.why) == (score is None)


def test_a_preference_beyond_its_range_is_refused_with_its_place(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"a\.jsonl:1: preference: found 3; expected 1 to 2"):
        read("alpaca_eval", tmp_path / "a.jsonl", {**ANNOTATION, "preference": 3})


def test_a_list_of_outputs_is_read_and_a_model_without_a_name_is_given_one(tmp_path: Path) -> None:
    path = tmp_path / "outputs.json.gz"
    rows = [{"instruction": "Name a colour.", "output": "Green"}]
    path.write_bytes(gzip.compress(json.dumps(rows).encode()))
    with pytest.raises(UserError, match="name the model with --model"):
        format_of("alpaca_eval").read([path], Names())
    found = format_of("alpaca_eval").read([path], Names(model="mine"))
    assert [(a.model, a.text) for a in found.answers] == [("mine", "Green")]


# ---- Arena-Hard -----------------------------------------------------------------------------------------------------


def test_games_of_arena_hard_show_the_baseline_first_and_then_second(tmp_path: Path) -> None:
    games = [{"score": "A>>B", "judgment": "[[A>>B]]"}, {"score": "B>A", "judgment": "[[B>A]]"}]
    row = {"question_id": "q", "model": "mine", "judge": "gpt-4", "games": games}
    first, second = read("arena_hard", tmp_path / "a.jsonl", row, names=Names(baseline="gpt-4-0314")).verdicts
    assert first.models == second.models == ("mine", "gpt-4-0314")
    assert (first.order, first.score, first.strong) == ("ba", 0.0, True)  # A was the baseline: much better
    assert (second.order, second.score, second.strong) == ("ab", 0.0, False)  # B was the baseline: better


def test_arena_hard_without_a_baseline_asks_for_it(tmp_path: Path) -> None:
    row = {"question_id": "q", "model": "m", "judge": "j", "games": [{"score": "A=B"}, {"score": None}]}
    with pytest.raises(UserError, match="--baseline gpt-4-0314"):
        read("arena_hard", tmp_path / "a.jsonl", row)
    tie, missing = read("arena_hard", tmp_path / "a.jsonl", {**row, "baseline": "b"}).verdicts
    assert (tie.score, missing.score) == (0.5, None)
    assert missing.why


def test_both_generations_of_arena_hard(tmp_path: Path) -> None:
    found = read(
        "arena_hard", tmp_path / "a.jsonl",
        {"question_id": "1", "category": "arena-hard-v0.1", "cluster": "c", "turns": [{"content": "Why?"}]},
        {"uid": "2", "category": "hard_prompt", "subcategory": "coding", "prompt": "How?"},
        {"question_id": "1", "model_id": "m", "choices": [{"index": 0, "turns": [{"content": "So.", "token_len": 2}]}]},
        {"uid": "2", "model": "m", "messages": [{"role": "user", "content": "How?"},
         {"role": "assistant", "content": {"answer": "Thus."}}], "metadata": {"token_len": 3}},
        {"uid": "2", "model": "m", "judge": "j", "games": [{"score": 7, "judgment": {"answer": "[[7]]"}}]},
    )  # fmt: skip
    assert [(i.id, i.prompt, i.category) for i in found.items] == [
        ("1", "Why?", "arena-hard-v0.1"), ("2", "How?", "coding")
    ]  # fmt: skip
    assert [i.columns for i in found.items] == [{"cluster": "c"}, {"category": "hard_prompt"}]
    assert [(a.item, a.text, a.num_tokens) for a in found.answers] == [("1", "So.", 2), ("2", "Thus.", 3)]
    assert (found.verdicts[0].models, found.verdicts[0].score) == (("m",), 7.0)


# ---- MT-Bench -------------------------------------------------------------------------------------------------------


def test_rows_of_mt_bench(tmp_path: Path) -> None:
    judge = ["gpt-4", "pair-v2"]
    found = read(
        "mt_bench", tmp_path / "m.jsonl",
        {"question_id": 81, "category": "writing", "turns": ["One", "Two"], "reference": ["r1", "r2"]},
        {"question_id": 81, "answer_id": "x", "model_id": "a", "choices": [{"index": 0, "turns": ["1", "2"]}],
         "tstamp": 1.5},
        {"question_id": 81, "model": "a", "judge": ["gpt-4", "single-v1"], "judgment": "[[8]]", "score": 8, "turn": 2},
        {"question_id": 81, "model": "a", "judge": ["gpt-4", "single-v1"], "judgment": "none", "score": -1, "turn": 1},
        {"question_id": 81, "model_1": "a", "model_2": "b", "g1_winner": "model_1", "g2_winner": "error",
         "judge": judge, "g1_judgment": "[[A]]", "g2_judgment": "?", "turn": 1},
    )  # fmt: skip
    item, answer = found.items[0], found.answers[0]
    assert (item.id, item.reference, item.category) == ("81", ["r1", "r2"], "writing")
    assert item.prompt == [{"role": "user", "content": "One"}, {"role": "user", "content": "Two"}]
    assert (answer.text, answer.columns["turns"]) == ("1\n\n[turn 2]\n\n2", ["1", "2"])
    grade, unread, first, second = found.verdicts
    assert (grade.score, grade.repeat, grade.columns["turn"]) == (8.0, 1, 2)
    assert (unread.score, unread.why) == (None, "no rating could be read (score -1)")
    assert (first.order, first.score, second.order, second.score) == ("ab", 1.0, "ba", None)


# ---- lm-eval --------------------------------------------------------------------------------------------------------

SAMPLE = {
    "doc_id": 3, "doc": {"question": "2 + 2"}, "target": "4", "arguments": {"gen_args_0": {"arg_0": "Q: 2 + 2\nA:"}},
    "resps": [["It is 4"]], "filtered_resps": ["4"], "filter": "strict-match", "metrics": ["exact_match"],
    "exact_match": 1.0, "doc_hash": "a", "prompt_hash": "b", "target_hash": "c",
}  # fmt: skip


def samples(folder: Path, *rows: dict[str, Any], task: str = "gsm8k") -> Path:
    inside = folder / "org__mine"
    inside.mkdir(exist_ok=True)
    return lines(inside / f"samples_{task}_2026-01-31T10-00-00.000000.jsonl", rows)


def test_samples_of_lm_eval(tmp_path: Path) -> None:
    path = samples(tmp_path, SAMPLE, {**SAMPLE, "filter": "none", "exact_match": float("nan")})
    found = format_of("lm_eval").read([path], Names())
    assert [(i.id, i.prompt, i.reference) for i in found.items] == [("gsm8k/3", "Q: 2 + 2\nA:", "4")]
    assert [(a.model, a.text) for a in found.answers] == [("org/mine", "It is 4")]
    strict, plain = found.scores
    assert (strict.metric, strict.score) == ("gsm8k:exact_match (strict-match)", 1.0)
    assert (plain.metric, plain.score, plain.why) == ("gsm8k:exact_match", None, "the value is nan")


def test_choices_of_lm_eval_are_read_by_their_log_likelihoods(tmp_path: Path) -> None:
    row = {
        **SAMPLE, "arguments": [["Sky is", " blue"], ["Sky is", " green"]],
        "resps": [[["-0.5", "True"]], [[-2.0, False]]],
        "filtered_resps": [[-0.5, True], [-2.0, False]], "filter": "none", "metrics": ["acc"], "acc": 1.0,
    }  # fmt: skip
    found = format_of("lm_eval").read([samples(tmp_path, row, task="sky_colour")], Names(model="m"))
    answer = found.answers[0]
    assert (answer.text, answer.columns) == ("blue", {"logps": [-0.5, -2.0], "choices": [" blue", " green"]})
    assert [(s.metric, s.score) for s in found.scores] == [("sky_colour:acc", 1.0)]


def test_a_file_of_another_name_is_no_samples(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="expected a name such as samples_gsm8k"):
        read("lm_eval", tmp_path / "results.jsonl", SAMPLE)


# ---- inspect_ai -----------------------------------------------------------------------------------------------------


def log(*rows: dict[str, Any], status: str = "success") -> dict[str, Any]:
    return {"version": 2, "status": status, "eval": {"task": "sums", "model": "openai/m"}, "samples": list(rows)}


def test_a_log_of_inspect_ai(tmp_path: Path) -> None:
    sample = {
        "id": 1, "epoch": 2, "input": [{"role": "user", "content": "attachment://h"}], "target": "4",
        "metadata": {"level": 1}, "attachments": {"h": "2 + 2"},
        "output": {"choices": [{"message": {"role": "assistant", "content": [{"type": "text", "text": "4"}]},
                                "stop_reason": "stop"}], "usage": {"output_tokens": 1}},
        "scores": {"match": {"value": "C", "answer": "4"}, "judge": {"value": {"style": 0.5, "truth": "I"}}},
    }  # fmt: skip
    path = tmp_path / "log.json"
    path.write_text(json.dumps(log(sample, {**sample, "id": 2, "scores": {}, "output": None, "error": {"message": "x"}},
                                   status="error")))  # fmt: skip
    found = format_of("inspect_ai").read([path], Names())
    assert found.items[0].prompt == [{"role": "user", "content": "2 + 2"}]
    answer = found.answers[0]
    assert (answer.item, answer.text, answer.sample, answer.stop, answer.num_tokens) == ("sums/1", "4", 1, "stop", 1)
    assert [(s.metric, s.score) for s in found.scores] == [
        ("sums:match", 1.0), ("sums:judge/style", 0.5), ("sums:judge/truth", 0.0), ("sums:error", None)
    ]  # fmt: skip
    assert found.scores[0].columns["extracted"] == "4"
    assert any("status error" in words for words in found.losses)
    assert found.losses["samples that ended in an error: they have no answer and no score"] == 1


def test_a_packed_log_says_how_to_unpack_it(tmp_path: Path) -> None:
    (tmp_path / "log.eval").write_bytes(b"PK")
    with pytest.raises(UserError, match="inspect log convert --to json"):
        format_of("inspect_ai").read([tmp_path / "log.eval"], Names())


# ---- all ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FORMATS)
def test_what_is_no_row_of_a_format_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "samples_t.jsonl"
    for text in ("{", "[1]", '{"nothing": 1}', "\ufffe"):
        path.write_text(text, encoding="utf-8", errors="replace")
        with pytest.raises(UserError, match=r"samples_t\.jsonl"):
            format_of(name).read([path], Names(model="m"))


def test_an_unknown_format_is_told_with_those_that_there_are() -> None:
    with pytest.raises(UserError, match=r"no such format: alpaca.*Did you mean alpaca_eval\?"):
        format_of("alpaca")

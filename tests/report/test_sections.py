"""Completions over time, and what a pipeline's numbers are means over."""

from __future__ import annotations

from pathlib import Path

from pages import read
from report.simulated import write_json, write_lines, write_pipeline, write_run

from align.report.page import write


def test_completions_in_between_are_folded_away_with_their_rewards(tmp_path: Path) -> None:
    run = write_run(tmp_path / "ppo")
    texts = {0: "sad", 40: "a smile", 80: "a laugh", 120: "all is well"}
    lines = [{"prompt": "Once", "text": text, "step": step, "rewards": {"happy": step / 100, "short": None}}
             for step, text in texts.items()]  # fmt: skip
    write_lines(run / "completions.jsonl", lines)
    words = read(write([run])).words
    assert "Before training happy 0 sad After 120 steps happy 1.2 all is well" in words
    assert "In between: 2 more After 40 steps happy 0.4 a smile After 80 steps happy 0.8 a laugh" in words
    write_lines(run / "completions.jsonl", [lines[0], lines[-1]])
    assert "In between" not in read(write([run])).words


def test_a_pipeline_leads_to_the_pages_of_its_evaluations(tmp_path: Path) -> None:
    folder = write_pipeline(tmp_path / "quickstart")
    for name, title in (("polite words", "polite <b>after</b> sft"), ("broken", ""), ("unwritten", "no page yet")):
        (folder / name).mkdir()
        write_json(folder / name / "results.json", {"title": title})
        if name != "unwritten":
            (folder / name / "report.html").write_text("the page")
    (folder / "broken/results.json").write_text("{")
    found = read(write([folder]))
    assert "Evaluation: polite <b>after</b> sft" in found.words
    assert [a["href"] for a in found.having("a") if "report.html" in a["href"]] == ["polite%20words/report.html"]


def test_a_number_of_a_pipeline_says_what_it_is_a_mean_over(tmp_path: Path) -> None:
    folder = write_pipeline(tmp_path / "quickstart")
    kl = {"value": 5.7, "stderr": 0.1, "n": 4, "unit": "steps"}
    write_json(folder / "summary.json", {"dpo_accuracy": {"value": 0.8, "stderr": 0.1, "n": 109}, "online_kl": kl})
    assert "DPO accuracy 80 ± 10 % on 109 rows Online KL 5.70 ± 0.10 on 4 steps" in read(write([folder])).words


def test_rollouts_can_be_found_with_all_their_verdicts(tmp_path: Path) -> None:
    """A completion's second line has what rewards that compare have said; of many experiences some are read."""
    run = write_run(tmp_path / "ppo")
    (run / "rollouts").mkdir()
    for number in range(50):
        line = {"number": number, "place": 0, "row": 7, "version": number, "tokens": [1, 2, 3], "stop": "length"}
        told = ({"a": 1.0}, {"a": 1.0, "b": None, "c": 2.5})
        first, second = ({"text": f"said {number}", "rewards": rewards} for rewards in told)
        write_lines(run / "rollouts" / f"{number:06d}.jsonl", [line | first, line | second | {"asked": "Why?"}])
    page = read(write([run]))
    (found,) = page.finders
    of = [i for i, kind in enumerate(found["kind"]) if found["kinds"][kind] == "rollout"]
    assert len(of) == 20
    assert [found["text"][of[0]], found["text"][of[-1]]] == ["said 0", "said 49"]
    assert {name: values[of[0]] for name, values in found["rewards"].items()} == {"a": 1.0, "c": 2.5}
    assert (found["prompts"][found["prompt"][of[0]]], found["length"][of[0]], found["step"][of[-1]]) == ("Why?", 3, 49)
    assert "rollouts/: 20 of 50 experiences are shown, the first and the last of them." in page.words

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

"""The page as a whole: well-formed, self-contained, true to its files, and unharmed by what is in them."""

from __future__ import annotations

import base64
import hashlib
import json
import random
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from pages import LOADERS, read
from report.simulated import completions, preference_steps, write_json, write_lines, write_pipeline, write_run

from align.errors import UserError
from align.report.page import write


@pytest.fixture(params=["run", "pipeline", "several"], scope="module")
def any_page(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    tmp_path = tmp_path_factory.mktemp(request.param)
    if request.param == "run":
        return write([write_run(tmp_path / "dpo")])
    if request.param == "pipeline":
        return write([write_pipeline(tmp_path / "quickstart")])
    second = write_run(tmp_path / "wide", seed=3, steps=90, method__beta=0.5)
    return write([write_run(tmp_path / "dpo"), second, write_pipeline(tmp_path / "quickstart")])


def test_is_well_formed_and_has_one_heading(any_page: Path) -> None:
    page = read(any_page)
    assert len(page.having("h1")) == 1
    assert page.words.count("· align report") == 1
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h[1-6]", tag)]
    assert all(b - a <= 1 for a, b in pairwise(levels)), "a heading level is skipped"


def test_loads_nothing_from_anywhere(any_page: Path) -> None:
    page, text = read(any_page), any_page.read_text(encoding="utf-8")
    assert not re.search(r"https?:|//[a-z0-9-]+\.[a-z]|@import|url\(", text)
    references = [v for _, attrs in page.tags for name, v in attrs.items() if name in LOADERS]
    ids = {attrs.get("id") for _, attrs in page.tags}
    assert all(v and v.startswith("#") and v[1:] in ids for v in references), "links stay within the page"
    assert not {tag for tag, _ in page.tags} & {"img", "link", "iframe", "object", "embed", "base", "form"}


def test_only_its_own_script_may_run(any_page: Path) -> None:
    text = any_page.read_text(encoding="utf-8")
    scripts = re.findall(r"<script>(.*?)</script>", text, flags=re.S)
    assert len(scripts) == 1, "all others are data"
    assert {a.get("type") for a in read(any_page).having("script")} == {None, "application/json"}
    digest = base64.b64encode(hashlib.sha256(scripts[0].encode()).digest()).decode()
    policy = next(a["content"] for a in read(any_page).having("meta") if a.get("http-equiv"))
    assert policy
    assert f"script-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert not [a for _, attrs in read(any_page).tags for a in attrs if a.startswith("on")]


def test_numbers_are_those_of_the_files(tmp_path: Path) -> None:
    run = write_run(tmp_path / "dpo")
    shown = {float(n) for n in read(write([run])).numbers}
    test = json.loads((run / "test.json").read_text())
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    evaluations = [line for line in lines if "eval/loss" in line]
    assert {test["accuracy"]["value"], test["loss"]["value"], test["before"]["accuracy"]["value"]} <= shown
    assert test["baselines"]["bag_of_words_accuracy"]["value"] in shown
    assert {evaluations[0]["eval/loss"], evaluations[-1]["eval/loss"], evaluations[-1]["eval/margin"]} <= shown
    assert max(line["memory_mb"] for line in lines) in shown
    assert lines[-1]["grad_norm"] in shown


def test_curves_reach_the_readers_hand_with_their_values(tmp_path: Path) -> None:
    run = write_run(tmp_path / "dpo")
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    loss = read(write([run])).charts[0]["series"][0]["points"]
    assert [step for step, _ in loss] == [line["step"] for line in lines]
    assert [y for _, y in loss] == pytest.approx([line["loss"] for line in lines], rel=1e-3)


def test_headline_of_a_preference_run(tmp_path: Path) -> None:
    words = read(write([write_run(tmp_path / "dpo")])).words
    assert "DPO ranks 89 ± 3 % of 110 held-out test pairs rightly; before training 52 ± 5 %." in words
    assert "points against the bag of words, 63 ± 5 %" in words


def test_no_line_ends_between_a_number_and_its_error_or_sign(tmp_path: Path) -> None:
    run = write_run(tmp_path / "dpo")
    write_json(run / "test.json", {"accuracy": {"value": 0.5, "stderr": 0.04, "n": 110}})
    page = write([run]).read_text()
    assert "is within two standard errors of chance (50\N{NO-BREAK SPACE}%)" in page
    assert "50\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}4\N{NO-BREAK SPACE}%</data></strong>" in page
    assert " % " not in page.split('<p class="lead">')[1].split("</p>")[0]


def test_five_thousand_steps_stay_small(tmp_path: Path) -> None:
    page = write([write_run(tmp_path / "long", steps=5000)])
    assert page.stat().st_size < 1_000_000
    read(page)


NASTY = "<script>alert(1)</script><img src=x onerror=alert(2)> \"quotes\" 'and' &amp; <!--{{ 7 * 7 }}"
NASTY += "\u202egnp.exe\u202c \x00\x07\x1b[31m \ud800 \u2028"


FURTHER: dict[str, dict[str, Any]] = {
    "rollouts/000001.jsonl": {"number": 1, "place": 0, "row": 1, "version": 3, "tokens": [1], "asked": NASTY,
                              "text": NASTY, "stop": NASTY, "rewards": {NASTY: 1.0}},
    "evaluations/checkpoints.jsonl": {"step": 1, "task": NASTY, "metric": NASTY, "value": 0.5, "low": 0.4, "high": 0.6,
                                      "level": 0.95, "method": NASTY, "n": 9, "unit": "share"},
}  # fmt: skip


def test_text_of_models_and_data_stays_text(tmp_path: Path) -> None:
    run = write_run(tmp_path / "<b>bold", method__name=NASTY, model__model_name_or_path=NASTY)
    samples = [line | {"text": NASTY, "prompt": NASTY, "stop_reason": NASTY} for line in completions(0)]
    write_lines(run / "completions.jsonl", samples)
    steps = [
        line | {f"{NASTY} metric": 1.0 + i, f"eval/{NASTY}": 2.0} for i, line in enumerate(preference_steps(40, 0))
    ]
    write_lines(run / "metrics.jsonl", steps)
    write_json(run / "test.json", {NASTY: {"value": 1.0, "stderr": 0.1, "n": 3}})
    write_json(run / "environment.json", {NASTY: NASTY, "world_size": NASTY})
    write_json(run / "data.json", {"splits": {NASTY: {"read": 9, "dropped": {NASTY: 9}}}, "notes": [NASTY]})
    for name, line in FURTHER.items():
        (run / name).parent.mkdir(exist_ok=True)
        write_lines(run / name, [line])
    write_json(run / "about_metrics.json", {"margin": {"label": NASTY, "unit": NASTY}})
    clean = [write_run(tmp_path / "clean"), write_run(tmp_path / "neat", method__beta=0.3)]
    tags = {tag for page in (write(clean), write(clean[:1])) for tag, _ in read(page).tags}
    target = write([run, write_run(tmp_path / "other")])
    for page in (write([run]), target):
        reader, text = read(page), page.read_text(encoding="utf-8")
        assert {tag for tag, _ in reader.tags} <= tags | {"li", "ul"}
        assert len([a for a in reader.having("script") if a.get("type") != "application/json"]) == 1
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069\u2028\ud800-\udfff]", text)
        assert "<!--{{ 7 * 7 }}" in reader.words
        assert "⟨U+202E⟩gnp.exe⟨U+202C⟩" in reader.words
        inside = json.dumps([reader.charts, reader.finders], ensure_ascii=False)
        assert "⟨U+202E⟩" in inside
        assert not re.search("[\u202a-\u202e\ud800-\udfff]", inside)
        assert "<script>alert(1)</script><img src=x onerror=alert(2)> \"quotes\" 'and' &amp;" in reader.words


@pytest.mark.parametrize(
    "missing", ["recipe.yaml", "metrics.jsonl", "completions.jsonl", "data.json", "environment.json", "test.json"]
)
def test_any_missing_file_leaves_a_page(tmp_path: Path, missing: str) -> None:
    run = write_run(tmp_path / "dpo")
    (run / missing).unlink()
    words = read(write([run])).words
    headings = {
        "completions.jsonl": "Before and after",
        "data.json": "Dropped, and why",
        "environment.json": "Environment",
    }
    if missing in headings:
        assert headings[missing] not in words
    if missing == "metrics.jsonl":
        assert "No step has been logged" in words
        assert "89 ± 3 %" in words


def test_a_run_that_has_only_begun(tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "recipe.yaml").write_text("method: {name: dpo}\n")
    assert "DPO has not logged a step yet." in read(write([tmp_path / "new"])).words


def test_torn_last_line_is_left_out_and_said(tmp_path: Path) -> None:
    run = write_run(tmp_path / "dpo", steps=50)
    whole = read(write([run])).having("svg")
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 51, "loss": 0.1')
    page = read(write([run]))
    assert "its last line is torn" in page.words
    assert page.having("svg") == whole


def test_spoilt_files_are_said(tmp_path: Path) -> None:
    run = write_run(tmp_path / "dpo")
    (run / "recipe.yaml").write_text("method: [unclosed\n  name: <i>dpo")
    (run / "data.json").write_bytes(b"\xff\xfe{")
    words = read(write([run])).words
    assert "recipe.yaml is not valid YAML" in words
    assert "data.json is not valid JSON" in words
    assert "name: <i>dpo" in words


def test_no_run_is_the_users_mistake(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(UserError, match=r"neither recipe\.yaml nor metrics\.jsonl.*notes\.txt"):
        write([tmp_path])
    with pytest.raises(UserError, match="no such folder"):
        write([tmp_path / "absent"])
    with pytest.raises(UserError, match="no run folder given"):
        write([])
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]


def test_page_goes_where_it_was_told(tmp_path: Path) -> None:
    run = write_run(tmp_path / "dpo")
    assert write([run]) == run / "report.html"
    assert write([run], tmp_path / "deep" / "x.html") == tmp_path / "deep" / "x.html"
    assert write([run, write_run(tmp_path / "two")]) == tmp_path / "comparison.html"
    assert not [p for p in tmp_path.rglob(".*")], "nothing half-written is left"
    with pytest.raises(UserError, match="cannot be written"):
        write([run], run / "recipe.yaml" / "x.html")


def junk(dice: random.Random, depth: int = 0) -> Any:
    """Any JSON value, with a liking for the names and numbers that matter."""
    leaves = (0, -1, 1.5, 1e308, -1e308, 1e-320, float("nan"), float("inf"), 10**400, True, None, "", "x", "0.5", NASTY)
    if depth > 3 or dice.random() < 0.55:
        return dice.choice(leaves)
    if dice.random() < 0.4:
        return [junk(dice, depth + 1) for _ in range(dice.randrange(4))]
    names = (
        "step",
        "loss",
        "eval/loss",
        "eval/loss_stderr",
        "accuracy",
        "margin",
        "value",
        "stderr",
        "n",
        "rows",
        "read",
    )
    names += (
        "edges",
        "counts",
        "dropped",
        "prompt",
        "text",
        "stage",
        "method",
        "training",
        "name",
        "before",
        "eval/n",
        "a/b",
    )
    return {dice.choice(names): junk(dice, depth + 1) for _ in range(dice.randrange(6))}


@pytest.mark.parametrize("seed", range(24))
def test_no_content_of_the_files_breaks_the_page(tmp_path: Path, seed: int) -> None:
    dice = random.Random(seed)
    run = tmp_path / "run"
    run.mkdir()
    (run / "recipe.yaml").write_text(json.dumps(junk(dice)))
    for name in ("environment.json", "data.json", "test.json"):
        write_json(run / name, junk(dice))
    lines = [
        {"step": step, **{k: dice.choice((1e308, -3, 0, 2.5, 1e-320)) for k in ("loss", "grad_norm")}}
        for step in (1, 2)
    ]
    lines += [line for _ in range(30) if isinstance(line := junk(dice), dict)]
    write_lines(run / "metrics.jsonl", lines)
    write_lines(
        run / "completions.jsonl", [{"prompt": junk(dice), "text": junk(dice), "step": junk(dice)} for _ in range(5)]
    )
    read(write([run]))
    read(write([run, write_run(tmp_path / "dpo", steps=5)]))

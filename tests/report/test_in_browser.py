"""The page in a headless Chromium: what a person reads off it and does with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from browser import Browser
from report.simulated import write_lines, write_pipeline, write_run

from align.report.page import write

HOSTILE = "</script><img src=x onerror='window.hacked=1'> \u202egnp"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Evaluated each 40 steps, so that a reading between two of them has two steps."""
    run = write_run(tmp_path_factory.mktemp("runs") / "dpo", steps=120)
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    kept = [{k: v for k, v in row.items() if row["step"] % 40 == 0 or not k.startswith("eval/")} for row in lines]
    write_lines(run / "metrics.jsonl", kept)
    told = [
        {"prompt": f"Question {i % 7}", "text": f"answer {i} {HOSTILE}", "step": i, "completion_length": 40 - i,
         "stop_reason": "eos" if i % 2 else "length", "rewards": {"happy": i / 10, "short": None if i % 3 else -i}}
        for i in range(40)
    ]  # fmt: skip
    write_lines(run / "completions.jsonl", told)
    (run / "rollouts").mkdir()
    rollout = {"row": 3, "version": 119, "tokens": [1, 2], "stop": "eos", "rewards": {"happy": 9.5}}
    write_lines(run / "rollouts" / "000001.jsonl", [
        rollout | {"number": 1, "place": i, "asked": "Tell me", "text": f"rolled {i}"} for i in range(3)
    ])  # fmt: skip
    return run


@pytest.fixture(scope="module")
def page(run: Path) -> Path:
    return write([run])


@pytest.fixture
def opened(browser: Browser, page: Path) -> Browser:
    browser.look()
    browser.open(page)
    return browser


def figure(title: str) -> str:
    return f"[...document.querySelectorAll('figure')].find((f) => f.querySelector('b').textContent === '{title}')"


def box(browser: Browser, title: str) -> dict[str, float]:
    """Of the drawing, in the window."""
    browser.run(f"{figure(title)}.scrollIntoView({{block: 'center'}})")
    return browser.run(f"(({{x, y, width, height}}) => ({{x, y, width, height}}))({figure(title)}"
                       ".querySelector('svg').getBoundingClientRect())")  # fmt: skip


def at(found: dict[str, float], share: float) -> tuple[float, float]:
    """A place in the drawing: 48 and 370 of 380 are the ends of the axis."""
    return found["x"] + found["width"] * (48 + share * 322) / 380, found["y"] + found["height"] / 2


def tip(browser: Browser, title: str) -> list[str]:
    browser.wait(f"!{figure(title)}.querySelector('.tip').hidden")
    return browser.run(f"[...{figure(title)}.querySelector('.tip').children].map((x) => x.textContent)")


def paths(browser: Browser, title: str) -> list[str]:
    return browser.run(f"[...{figure(title)}.querySelectorAll('.line')].map((p) => p.getAttribute('d'))")


def test_a_value_is_read_with_its_name_and_its_own_step(opened: Browser, run: Path) -> None:
    lines = {row["step"]: row for row in map(json.loads, (run / "metrics.jsonl").read_text().splitlines())}
    opened.point("mouseMoved", *at(box(opened, "Loss"), 69 / 119))
    head, training, validation = tip(opened, "Loss")
    assert head == "step 70"
    ours, held_out = (float(f"{value:.4g}") for value in (lines[70]["loss"], lines[80]["eval/loss"]))
    assert training == f"training {ours}"
    assert validation == f"validation {held_out}\u00a0±\u00a00.021 at step 80"


def test_a_path_that_goes_back_and_forth_is_read_by_its_nearest_point(browser: Browser, tmp_path: Path) -> None:
    run = write_run(tmp_path / "ppo")
    kl = [0, 30, 10, 25, 20, 5, 15]
    write_lines(run / "metrics.jsonl", [{"step": s, "kl": k, "reward": s / 8} for s, k in enumerate(kl, 1)])
    browser.look()
    browser.open(write([run]))
    title = "Reward against KL, nats a completion"
    browser.point("mouseMoved", *at(box(browser, title), 10.6 / 30))
    assert tip(browser, title) == ["KL 10", "an experience 0.375"]


def numbers(path: str) -> list[float]:
    return [float(n) for n in path.removeprefix("M").replace("L", " ").split()]


def test_what_is_drawn_anew_is_what_stands_in_the_page(opened: Browser) -> None:
    for title in ("Loss", "Gradient norm", "Margin", "Learning rate"):
        before = paths(opened, title)
        opened.run(f"own = {figure(title)}; chart = own.parentElement.charts.find((c) => c.figure === own)")
        opened.run("chart.ready().then(() => chart.draw())")
        after = paths(opened, title)
        assert len(before) == len(after) > 0
        for one, other in zip(before, after, strict=True):
            assert numbers(one) == pytest.approx(numbers(other), abs=0.11), title


def test_charts_zoom_together_and_are_whole_again(opened: Browser) -> None:
    place = box(opened, "Loss")
    opened.drag(at(place, 0.5), at(place, 0.75))
    opened.wait("document.querySelectorAll('.zoomed').length > 4")
    ticks = opened.run(f"[...{figure('Margin')}.querySelectorAll('.tick')].map((t) => t.textContent)")
    assert {"70", "80", "90"} & set(ticks)
    assert "100" not in ticks
    opened.press(["Escape"])
    opened.run(f"{figure('Loss')}.querySelector('svg').focus()")
    opened.press(["Escape"])
    opened.wait("!document.querySelector('.zoomed')")


def test_the_keyboard_reads_zooms_and_leaves_lines_out(opened: Browser) -> None:
    opened.run(f"{figure('Loss')}.querySelector('svg').focus()")
    opened.press(["ArrowRight", "ArrowRight"])
    assert tip(opened, "Loss")[0] == "step 2"
    opened.press(["+"])
    opened.wait("document.querySelector('.zoomed')")
    opened.press(["0"])
    opened.wait("!document.querySelector('.zoomed')")
    drawn = len(paths(opened, "Loss"))
    opened.run(f"{figure('Loss')}.querySelector('.legend span').focus()")
    opened.press(["Enter"])
    opened.wait(f"{figure('Loss')}.querySelector('[aria-pressed=false]')")
    assert len(paths(opened, "Loss")) < drawn
    opened.press(["Enter"])
    assert len(paths(opened, "Loss")) == drawn


def test_a_logarithmic_axis_and_smoothing(opened: Browser) -> None:
    before = paths(opened, "Gradient norm")
    opened.point("mouseMoved", *at(box(opened, "Gradient norm"), 0.5))
    opened.wait(f"{figure('Gradient norm')}.querySelector('button[aria-pressed]')")
    opened.run(f"window.own = {figure('Gradient norm')}; own.querySelector('button[aria-pressed]').click()")
    assert opened.run("own.querySelector('b').textContent") == "Gradient norm, logarithmic"
    log = [numbers(d) for d in opened.run("[...own.querySelectorAll('.line')].map((p) => p.getAttribute('d'))")]
    assert log[0] != pytest.approx(numbers(before[0]), abs=1)
    opened.run("own.querySelector('button[aria-pressed]').click()")
    slide = "s = document.querySelector('.tools input'); s.value = {}; s.dispatchEvent(new Event('input'))"
    opened.run(slide.format(0))
    opened.wait(f"{figure('Gradient norm')}.querySelectorAll('.line').length === 1")
    opened.run(slide.format(10))
    opened.wait(f"{figure('Gradient norm')}.querySelectorAll('.line').length === 2")
    up = numbers(paths(opened, "Gradient norm")[1])[1::2]
    assert max(up) - min(up) < 0.7 * (max(numbers(before[1])[1::2]) - min(numbers(before[1])[1::2]))


# ---- completions ----------------------------------------------------------------------------------------------------


def unfold_completions(browser: Browser) -> None:
    browser.run("document.querySelector('.finder').closest('details').open = true")
    browser.run("document.querySelector('.finder').scrollIntoView()")
    browser.wait("document.querySelector('.found article')")


def field(browser: Browser, label: str, value: str) -> None:
    labels = "[...document.querySelectorAll('.controls label')]"
    control = f"{labels}.find((l) => l.firstChild.textContent === '{label}')"
    tell = "c.dispatchEvent(new Event('change', {bubbles: true}))"
    browser.run(f"c = {control}.lastChild; c.value = '{value}'; {tell}")


def found(browser: Browser) -> tuple[str, list[str]]:
    cards = browser.run("[...document.querySelectorAll('.found .said .text')].map((x) => x.textContent)")
    count = browser.run("document.querySelector('.finder output').textContent")
    return count, [" ".join(card.split()[:2]) for card in cards]


def test_completions_are_searched_filtered_and_sorted(opened: Browser) -> None:
    unfold_completions(opened)
    count, cards = found(opened)
    assert count == "43 completions"
    assert cards[:4] == ["rolled 0", "rolled 1", "rolled 2", "answer 39"]
    field(opened, "Which", "1")
    field(opened, "Sort by", "length")
    assert found(opened)[1][:2] == ["answer 1", "answer 2"]
    field(opened, "Ended by", "0")
    assert found(opened)[1][:2] == ["answer 2", "answer 4"]
    field(opened, "Only", "0")
    field(opened, "from", "0.5")
    field(opened, "to", "1")
    assert found(opened) == ("3 of 43 completions", ["answer 6", "answer 8", "answer 10"])
    for label in ("Which", "Ended by", "Only"):
        field(opened, label, "")
    field(opened, "Search", "ANSWER 17")
    assert found(opened) == ("1 of 43 completions", ["answer 17"])
    assert opened.run("document.querySelector('.found mark').textContent") == "answer 17"
    field(opened, "Search", "")
    field(opened, "Sort by", "1")  # a reward that most have not
    assert found(opened)[1][:3] == ["answer 0", "answer 3", "answer 6"]


def test_nothing_of_a_text_is_obeyed_and_all_of_it_is_shown(opened: Browser) -> None:
    unfold_completions(opened)
    field(opened, "Search", "answer 17")
    shown = opened.run("document.querySelector('.found .said .text').textContent")
    assert shown == f"answer 17 {HOSTILE}".replace("\u202e", "⟨U+202E⟩")
    assert opened.run("typeof window.hacked") == "undefined"
    assert opened.said == []


# ---- the page as a whole --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pages(run: Path, page: Path) -> list[Path]:
    pipeline = write_pipeline(run.parent / "quickstart")
    many = [write_run(run.parent / f"run-{i}-with-a-rather-long-name", seed=i, steps=40) for i in range(6)]
    return [page, write([pipeline]), write([run, *many, pipeline])]


@pytest.mark.parametrize("width", [390, 1200])
def test_nothing_sticks_out_at_the_side(browser: Browser, pages: list[Path], width: int) -> None:
    """With everything unfolded; a table is no wider than the page, so that nobody scrolls for its last columns."""
    browser.look(width)
    for page in pages:
        browser.open(page)
        browser.run("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
        assert browser.run("document.documentElement.scrollWidth") == width
        wide = "[...document.querySelectorAll('.scroll')].filter((s) => s.scrollWidth > s.clientWidth + 1).length"
        assert browser.run(wide) == 0, page
        assert browser.said == []


def test_a_pipeline_is_folded_and_a_link_unfolds(browser: Browser, pages: list[Path]) -> None:
    browser.look()
    browser.open(pages[1])
    assert browser.run("document.documentElement.scrollHeight") < 1600
    assert browser.run("[...document.querySelectorAll('.part')].some((p) => p.open && p.id)") is False
    browser.run("location.hash = '#stage-1'")
    browser.wait("document.getElementById('stage-1').open")


def test_light_dark_and_print(browser: Browser, page: Path, tmp_path: Path) -> None:
    colours: list[Any] = []
    for scheme in ("light", "dark"):
        browser.look(scheme=scheme)
        browser.open(page)
        colours.append(browser.run("getComputedStyle(document.body).backgroundColor"))
    assert colours[0] != colours[1]
    folded = "[...document.querySelectorAll('details.part')].filter((d) => !d.open).length"
    assert browser.run(folded) == 4
    assert browser.print(tmp_path / "page.pdf").stat().st_size > 20_000
    assert browser.run(folded) == 4
    browser.look(media="print")
    assert browser.run("getComputedStyle(document.querySelector('.tools')).display") == "none"
    browser.look()


def test_a_page_that_is_written_to_is_read_anew_but_not_under_the_readers_hands(browser: Browser, run: Path) -> None:
    browser.look()
    page = write([run], run / "watched.html", watched=1)
    browser.open(page)
    browser.run("document.querySelector('details.part').open = false; window.same = true")
    browser.wait("window.same !== true")
    browser.wait("document.querySelector('details.part') && !document.querySelector('details.part').open")
    unfold_completions(browser)
    browser.run("document.querySelector('.controls input').focus(); window.same = true")
    browser.run("new Promise((done) => setTimeout(done, 1500))")
    assert browser.run("window.same") is True

"""The page in a headless Chromium: what a person sees and does with it."""

from __future__ import annotations

from pathlib import Path

import pytest
from browser import Browser
from evaluations import HOSTILE, MODELS, folder, results

from align_eval.page import browser as items
from align_eval.page.write import report
from align_eval.results.reading import write as write_results


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = folder(tmp_path_factory.mktemp("evaluation"))
    write_results(path, results())
    return report(path)


def item(browser: Browser) -> str:
    return browser.run("document.querySelector('#item h3').textContent")


def count(browser: Browser) -> str:
    return browser.run("document.getElementById('count').textContent")


def choose(browser: Browser, select: str, value: str) -> None:
    script = "s = document.getElementById('{}'); s.value = '{}'; s.dispatchEvent(new Event('change'))"
    browser.run(script.format(select, value))


def test_nothing_of_a_text_is_obeyed_and_all_of_it_is_shown(browser: Browser, page: Path) -> None:
    browser.look()
    browser.open(page)
    shown = HOSTILE.replace("\u2028", "⟨U+2028⟩").replace("\u202e", "⟨U+202E⟩")
    assert browser.run("[...document.querySelectorAll('#item .asked .text')][0].textContent") == f"prompt 0 {shown}"
    answers = browser.run("[...document.querySelectorAll('#item .said .text')].map((x) => x.textContent)")
    assert answers == [f"{model} says 0 {shown}" for model in MODELS]
    assert browser.run("[...document.querySelectorAll('#item .answers .said')].length") == 2
    assert browser.run("document.querySelector('#item .others summary').textContent") == "Answers of other models: 1"
    assert browser.run("typeof window.hacked") == "undefined"
    assert browser.said == []


def test_verdicts_are_told_with_who_was_shown_first(browser: Browser, page: Path) -> None:
    browser.open(page)
    verdicts = browser.run("[...document.querySelectorAll('#item .verdict')].map((x) => x.textContent)")
    assert verdicts[0] == ("judge <b>: org/base preferred (org/base shown first) · contradicts its explanation · "
                           "grades 8 and 7.5")  # fmt: skip
    assert verdicts[1].startswith("judge <b>: org/base preferred (tuned </title> shown first)")
    assert "gsm8k:exact missing: not read" in browser.run("document.querySelector('#item .who').textContent")


def test_keys(browser: Browser, page: Path) -> None:
    browser.open(page)
    assert item(browser) == "item 0 · maths"
    browser.press(["j", "j"])
    browser.wait("document.querySelector('#item h3').textContent.startsWith('item 2 ')")
    browser.press(["k"])
    browser.wait("document.querySelector('#item h3').textContent.startsWith('item 1 ')")
    browser.press(["/"])
    assert browser.run("document.activeElement.id") == "words"
    browser.press(list("because 17"))
    browser.wait("document.getElementById('count').textContent === '1 of 30 items'")
    browser.wait("document.querySelector('#item h3').textContent.startsWith('item 17 ')")
    assert browser.run("document.querySelector('#item mark').textContent") == "because 17"
    browser.press(["Escape"])
    assert browser.run("document.activeElement.id") == "list"


@pytest.mark.parametrize(
    ("outcome", "found"),
    [("first", 1), ("second", 1), ("tie", 27), ("orders", 1), ("missing", 1), ("judges", 0)],
)  # fmt: skip
def test_filters(browser: Browser, page: Path, outcome: str, found: int) -> None:
    browser.open(page)
    choose(browser, "outcome", outcome)
    browser.wait(f"document.getElementById('count').textContent === '{found} of 30 items'")


def test_outcomes_by_a_metric(browser: Browser, page: Path) -> None:
    browser.open(page)
    choose(browser, "by", "0")
    choose(browser, "outcome", "first")
    browser.wait("document.getElementById('count').textContent === '1 of 30 items'")
    assert item(browser) == "item 5 · prose"
    assert browser.run("document.querySelector('.entry .won').textContent") == "1 : 0.25"
    choose(browser, "outcome", "missing")
    browser.wait("document.querySelector('#item h3').textContent === 'item 0 · maths'")


def test_other_models_and_categories(browser: Browser, page: Path) -> None:
    browser.open(page)
    choose(browser, "category", "1")
    browser.wait("document.getElementById('count').textContent === '15 of 30 items'")
    choose(browser, "second", "2")
    browser.wait("document.querySelectorAll('#item .said .who b')[1].textContent === 'a|b_c%=1'")
    assert browser.run("document.querySelector('#item .verdicts details').open")
    assert "No verdicts on these two" in browser.run("document.querySelector('#item .verdicts').textContent")


def test_the_list_holds_few_elements_however_many_items(browser: Browser, page: Path) -> None:
    browser.open(page)
    assert browser.run("document.querySelectorAll('.entry').length") <= 30
    assert browser.run("document.getElementById('rows').style.height") == f"{30 * 56}px"


@pytest.mark.parametrize("width", [360, 390, 800, 1200])
def test_nothing_sticks_out_at_the_side(browser: Browser, page: Path, width: int) -> None:
    browser.look(width)
    browser.open(page)
    assert browser.run("document.documentElement.scrollWidth") == width
    browser.look()


def test_light_dark_and_print_differ(browser: Browser, page: Path) -> None:
    colours: list[str] = []
    for scheme in ("light", "dark"):
        browser.look(scheme=scheme)
        browser.open(page)
        colours.append(browser.run("getComputedStyle(document.body).backgroundColor"))
    assert colours[0] != colours[1]
    browser.look(media="print")
    assert browser.run("getComputedStyle(document.getElementById('list')).display") == "none"
    browser.look()


def test_large_data_is_unpacked_and_a_browser_that_cannot_says_so(
    browser: Browser, page: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("align.report.parts.embedded.PLAIN", 0)
    monkeypatch.setattr(items, "PART", 2_000)
    packed = report(page.parent, page.parent / "packed.html")
    assert packed.read_text().count('"deflated":') > 5
    browser.open(packed)
    browser.press(["j"] * 9)
    browser.wait("document.querySelector('#item h3').textContent.startsWith('item 9 ')")
    script = browser.ask("Page.addScriptToEvaluateOnNewDocument", source="delete window.DecompressionStream")
    browser.ask("Page.navigate", url=packed.as_uri())
    browser.wait("/cannot unpack the items/.test(document.getElementById('items').textContent)")
    browser.ask("Page.removeScriptToEvaluateOnNewDocument", identifier=script["identifier"])

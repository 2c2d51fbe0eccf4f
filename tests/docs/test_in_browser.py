"""The site in a headless Chromium, from the disk: on a phone, by keyboard, in both schemes, and searched."""

from __future__ import annotations

from pathlib import Path

import pytest
from browser import Browser

PAGES = ("index", "methods/ppo", "settings", "data", "coming-from")
LEAST = 4.5  # contrast of text to what is behind it (WCAG 2.1, AA)
PALE = """
(() => {
  const numbers = (c) => (c.match(/[\\d.]+/g) || [0, 0, 0, 0]).map(Number);
  const over = (a, b) => a.slice(0, 3).map((v, i) => v * (a[3] ?? 1) + b[i] * (1 - (a[3] ?? 1)));
  const behind = (e) => {
    const layers = [];
    for (let at = e; at; at = at.parentElement) layers.unshift(numbers(getComputedStyle(at).backgroundColor));
    return layers.reduce((below, layer) => over(layer.length > 3 ? layer : [...layer, 1], below), [255, 255, 255]);
  };
  const light = (c) => c.map((v) => v / 255).map((v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const found = {};
  for (const e of document.querySelectorAll('.md-header *, .md-content *, .md-sidebar *')) {
    const said = [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    if (!said || !e.checkVisibility({ opacityProperty: true, visibilityProperty: true })) continue;
    const below = behind(e);
    const [a, b] = [light(over(numbers(getComputedStyle(e).color), below)), light(below)];
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    const name = `${e.tagName}.${e.className}`;
    if (contrast < LEAST) found[name] = `${contrast.toFixed(2)} ${e.textContent.trim().slice(0, 30)}`;
  }
  return found;
})()
""".replace("LEAST", str(LEAST))


@pytest.mark.parametrize("page", PAGES)
def test_a_page_fits_a_phone_fetches_nothing_and_says_no_error(browser: Browser, site: Path, page: str) -> None:
    """With everything unfolded."""
    browser.said.clear()
    browser.look(390, 844)
    browser.open(site / f"{page}.html")
    browser.run("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    assert browser.run("document.documentElement.scrollWidth") == 390
    fetched = browser.run("performance.getEntriesByType('resource').map((r) => r.name)")
    assert all(name.startswith(("file:", "data:")) for name in fetched)
    assert browser.said == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_what_is_behind_it(browser: Browser, site: Path, scheme: str) -> None:
    browser.look(1280, scheme=scheme)
    browser.open(site / "index.html")
    browser.run("localStorage.clear()")  # what the page before has chosen
    colours: set[str] = set()
    for page in ("index", "methods/ppo", "data"):
        browser.open(site / f"{page}.html")
        colours.add(browser.run("document.body.dataset.mdColorScheme"))
        assert browser.run(PALE) == {}, page
    assert colours == {"default" if scheme == "light" else "slate"}


def test_the_keyboard_reaches_the_text_first_and_then_all_else(browser: Browser, site: Path) -> None:
    browser.look(1280)
    browser.open(site / "index.html")
    focused = "document.activeElement.textContent.trim()"
    browser.press(["Tab"])
    assert browser.run(focused) == "Skip to content"
    seen: list[str] = []
    for _ in range(40):
        browser.press(["Tab"])
        seen.append(browser.run(f"document.activeElement.getAttribute('aria-label') || {focused}"))
    assert {"Search", "Install", "Settings"} <= set(seen)


def test_the_search_finds_a_setting_and_a_message(browser: Browser, site: Path) -> None:
    browser.look(1280)
    browser.said.clear()
    browser.open(site / "index.html")
    for words, place in (("lora_dropout", "settings.html"), ("nothing is overwritten", "troubleshooting.html")):
        browser.run("document.querySelector('#__search').click()")
        write = "((i) => { i.focus(); i.value = '%s'; i.dispatchEvent(new Event('keyup', {bubbles: true})); })"
        browser.run(write % words + "(document.querySelector('.md-search__input'))")
        links = "[...document.querySelectorAll('.md-search-result__link')]"
        browser.wait(f"{links}.some((a) => a.href.includes('{place}'))")
        browser.press(["Escape"])
    assert browser.said == []

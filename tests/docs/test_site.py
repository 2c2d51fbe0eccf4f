"""The site as it is built: nothing leads nowhere, every method and every key has its place, nothing is fetched."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, fields
from functools import cache
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from typer.main import get_command

from align.cli.entries import entry
from align.cli.main import app
from align.methods.base import find_method, method_names
from align.recipe.text import recipe_names
from align.rewards.base import reward_names
from align.rewards.shape import PIECES
from align.translate.words import PROJECTS, words_of
from align_eval.cli import app as eval_app
from docs.generate.commands import leaves
from docs.generate.comments import meanings
from docs.generate.mathematics import mathml
from docs.generate.methods import knob_meanings
from docs.generate.rewards import reward_class
from docs.generate.settings import keys, sections

LOADED = {"script": "src", "link": "href", "img": "src", "iframe": "src", "source": "src"}


@dataclass
class Page(HTMLParser):
    """What a page names, and what it can be linked to by."""

    lang: str = ""
    title: str = ""
    ids: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    loaded: list[str] = field(default_factory=list)
    without_alt: list[str] = field(default_factory=list)
    headings: list[str] = field(default_factory=list)
    text: str = ""

    def __post_init__(self) -> None:
        super().__init__()
        self.inside: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        if tag not in ("meta", "link", "img", "br", "hr", "input"):
            self.inside.append(tag)
        self.lang = found.get("lang", self.lang) if tag == "html" else self.lang
        if "id" in found:
            self.ids.append(found["id"])
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        if tag in LOADED and found.get(LOADED[tag]) and found.get("rel") not in ("canonical", "prev", "next"):
            self.loaded.append(found[LOADED[tag]])
        if tag == "img" and not found.get("alt"):
            self.without_alt.append(found.get("src", ""))
        if tag in ("h1", "h2", "h3", "h4"):
            self.headings.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in self.inside:
            while self.inside.pop() != tag:
                pass

    def handle_data(self, data: str) -> None:
        self.title += data if self.inside[-1:] == ["title"] else ""
        self.text += data if not {"script", "style", "code", "math"} & {*self.inside} else ""


@cache
def read(path: Path) -> Page:
    page = Page()
    page.feed(path.read_text(encoding="utf-8"))
    return page


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    return {path: read(path) for path in sorted(site.rglob("*.html")) if path.name != "404.html"}


def test_every_link_and_every_place_in_a_page_is_there(pages: dict[Path, Page]) -> None:
    lost: list[str] = []
    for path, page in pages.items():
        for link in {*page.links, *page.loaded}:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if target.is_dir():
                target /= "index.html"
            there = target in pages and (not parts.fragment or unquote(parts.fragment) in pages[target].ids)
            if not (there or (target.is_file() and not parts.fragment)) and not parts.fragment.startswith("__"):
                lost.append(f"{path.name}: {link}")
    assert not lost, lost


def test_nothing_is_loaded_from_elsewhere(pages: dict[Path, Page], site: Path) -> None:
    assert not [(path.name, link) for path, page in pages.items() for link in page.loaded if urlsplit(link).netloc]
    styles = [style.read_text(encoding="utf-8") for style in site.rglob("*.css")]
    assert not [found for style in styles for found in re.findall(r"url\([\"']?(?:https?:)?//[^)]*", style)]


def test_pages_can_be_read_aloud(pages: dict[Path, Page]) -> None:
    """A language, a title of its own, one first heading, no level left out, a text for every picture."""
    titles = [page.title for page in pages.values()]
    assert len(titles) == len(set(titles))
    for path, page in pages.items():
        assert page.lang == "en", path
        assert page.headings.count("h1") == 1, path
        levels = [int(h[1]) for h in page.headings]
        assert all(below - above <= 1 for above, below in pairwise(levels)), path
        assert not page.without_alt, path
        assert len(page.ids) == len(set(page.ids)), path


def test_no_formula_is_left_undrawn(pages: dict[Path, Page]) -> None:
    for path, page in pages.items():
        assert not re.search(r"\$\$|\\\(|\\frac|\\mathrm|<!-- |made:", page.text), path
    with pytest.raises(ValueError, match=r"\\nosuch"):
        mathml(r"a + \nosuch", "inline")


@pytest.mark.parametrize("name", method_names())
def test_a_method_has_its_page(site: Path, name: str) -> None:
    page = read(site / "methods" / f"{name}.html")
    text = (site / "methods" / f"{name}.html").read_text(encoding="utf-8")
    cls = find_method(name)
    assert text.count("<math alttext") >= 1
    assert entry(cls).title in page.text
    for knob in entry(cls).knobs:
        assert f"method.{knob}" in page.ids
        assert knob_meanings(cls)[knob], f"{name}.{knob}: say what it means, beside the field or in the recipe"
    assert "Metrics" in page.text
    assert f"align train {name}" in text


def test_every_recipe_has_its_place(site: Path) -> None:
    page = read(site / "recipes.html")
    for name in recipe_names():
        assert f"methods/{name}.html" in page.links if name in method_names() else name in page.ids


@pytest.mark.parametrize("page", ["methods/index", "choosing"])
def test_every_method_is_in_the_table_and_has_its_reason(site: Path, page: str) -> None:
    """Links of the text alone: the navigation has all of them anyway."""
    text = (site / f"{page}.html").read_text(encoding="utf-8").partition("<article")[2].partition("</article>")[0]
    named = {link.split("/")[-1] for link in re.findall(r'href="([^"]+)"', text)}
    assert {f"{name}.html" for name in method_names()} <= named


def test_every_key_of_a_recipe_has_its_line_and_its_meaning(site: Path) -> None:
    assert len(keys()) > 100
    assert set(keys()) <= set(read(site / "settings.html").ids)
    told = [*sections(), *((name, reward_class(name)[0]) for name in reward_names()), *PIECES.items()]
    silent = [f"{key}.{f.name}" for key, cls in told for f in fields(cls) if not meanings(cls)[f.name]]
    assert not silent, "say what it means in a comment beside the field"


def test_every_command_reward_and_word_has_its_place(site: Path) -> None:
    commands, rewards = read(site / "commands.html"), read(site / "reward.html")
    for name, typed in (("align", app), ("align-eval", eval_app)):
        for path, _ in leaves(get_command(typed)):
            assert f"{name} {path}".replace(" ", "-") in commands.ids
    assert set(reward_names()) <= set(rewards.ids)
    words = (site / "coming-from.html").read_text(encoding="utf-8")
    for project in PROJECTS:
        assert all(f"<code>{word}</code>" in words for word in words_of(project).here)

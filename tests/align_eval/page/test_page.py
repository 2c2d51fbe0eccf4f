"""The page as text: everything is in it, nothing comes from elsewhere, and no text leaves its place."""

from __future__ import annotations

import base64
import html.parser
import json
import zlib
from pathlib import Path
from typing import Any

import pytest
from evaluations import HOSTILE, MODELS, folder, of, results

from align.errors import UserError
from align.judges.base import Verdict
from align.report.parts.embedded import PLAIN, block
from align_eval.analysis.evaluation import Evaluation
from align_eval.cli import main
from align_eval.page import browser as items
from align_eval.page.headline import headline
from align_eval.page.matrix import matrices
from align_eval.page.write import page, report
from align_eval.records import Answer, Item
from align_eval.results.document import Difference, Pair, Results, Sections
from align_eval.results.reading import write as write_results


class Read(html.parser.HTMLParser):
    """What a browser makes of it: scripts by id, tags, and the text outside of scripts."""

    def __init__(self, text: str):
        super().__init__()
        self.scripts: dict[str, str] = {}
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.said, self.inside = "", ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.inside = f"{tag} {dict(attrs).get('id') or ''}" if tag in ("script", "style") else self.inside

    def handle_endtag(self, tag: str) -> None:
        self.inside = "" if tag in ("script", "style") else self.inside

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.scripts[self.inside] = self.scripts.get(self.inside, "") + data
        else:
            self.said += data

    def block(self, name: str) -> Any:
        return unpacked(self.scripts[f"script {name}"])


def unpacked(text: str) -> Any:
    value = json.loads(text)
    if isinstance(value, dict) and "deflated" in value:
        return json.loads(zlib.decompress(base64.b64decode(value["deflated"]), -zlib.MAX_WBITS))
    return value


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Read:
    path = folder(tmp_path_factory.mktemp("evaluation"))
    write_results(path, results())
    assert main(["report", str(path)]) == 0
    return Read((path / "report.html").read_text(encoding="utf-8"))


def test_every_section_is_there(made: Read) -> None:
    sections = [attributes.get("id") for tag, attributes in made.tags if tag == "section"]
    assert sections == [
        "leaderboard", "matrix", "pairs", "scores", "differences", "categories", "judges", "agreement", "frontier",
        "failures", "items", "manifest",
    ]  # fmt: skip
    for words in ("62.0 % [52.0, 72.0]", "n 40, 20 clusters", "missing: no verdicts", "[[9.5]]", "unequal coverage",
                  "95 % interval: Wilson", "align-eval leaderboard evals/mine", "2.1 points"):  # fmt: skip
        assert words in made.said, words


def test_how_far_the_same_pairs_come_out_apart_stands_beside_their_difference(made: Read) -> None:
    assert "judged twice: 3.0 % [2.0, 4.0] apart" in made.said
    assert "14.0 points" not in made.said
    assert "9.0 points" in made.said  # detectable


def test_nothing_comes_from_elsewhere_and_the_policy_forbids_it(made: Read) -> None:
    for tag, attributes in made.tags:
        assert not {"src", "onerror", "onclick", "onload"} & attributes.keys(), tag
        assert not (attributes.get("href") or "#").startswith(("http", "//", "data:"))
    policy = next(a["content"] for t, a in made.tags if t == "meta" and a.get("http-equiv"))
    assert policy is not None
    assert policy.startswith("default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-")
    assert "url(" not in made.scripts["style "]


def test_no_text_leaves_its_place(made: Read) -> None:
    kinds = [attributes.get("type") for tag, attributes in made.tags if tag == "script"]
    assert kinds.count(None) == 1  # our own; all others are data
    assert set(kinds) == {None, "application/json"}
    assert "img" not in {tag for tag, _ in made.tags}
    assert "window.hacked" in made.said  # as words, in the title
    assert "⟨U+2028⟩⟨U+202E⟩" in made.said


def test_items_are_whole_in_the_data(made: Read) -> None:
    index, texts = made.block("index"), made.block("texts-0")
    assert index["ids"] == [f"item {i}" for i in range(30)]
    assert (index["models"][0], index["pair"]) == (MODELS[0], [0, 1])
    shown = HOSTILE.replace("\u2028", "⟨U+2028⟩").replace("\u202e", "⟨U+202E⟩")
    assert texts[0]["prompt"] == f"prompt 0 {shown}"
    answer = next(a for a in texts[0]["answers"] if a[0] == 0)
    assert answer[2:] == [f"org/base says 0 {shown}", len(f"org/base says 0 {HOSTILE}"), "eos", 7]
    assert texts[0]["verdicts"][0] == [0, f"because 0 {shown}", "", ["contradicts its explanation", "grades 8 and 7.5"]]
    assert texts[0]["scores"] == [[0, 0, "gsm8k:exact", None, "not read"], [1, 0, "gsm8k:exact", 1.0, ""]]
    assert index["scores"]["value"] == [None, 1.0, 1.0, 0.25]
    assert [index["verdicts"]["score"][n] for n in range(8)] == [1, 1, 1, 0, None, None, 0, 0]
    assert index["verdicts"]["swapped"][:2] == [0, 1]


@pytest.mark.parametrize("size", [10, PLAIN])
def test_a_block_holds_what_was_put_into_it(size: int) -> None:
    value = {"text": HOSTILE + "x" * size, "half": "\ud800"}
    found = Read(f"<p>before</p>{block('it', value)}<p>after</p>")
    assert found.block("it") == value
    assert found.said == "beforeafter"


def test_texts_are_cut_where_all_would_be_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(items, "BUDGET", 60_000)
    words = [f"{i * 7919 % 10007}" for i in range(60_000)]  # little to be saved by packing
    evaluation = Evaluation(
        items=[Item(id=str(i), prompt="why") for i in range(60)],
        answers=[Answer(item=str(i), model="m", text=" ".join(words[i * 1000 : i * 1000 + 1000])) for i in range(60)],
    )
    made = items.browser(evaluation)
    size = sum(len(b) for b in made.blocks)
    assert 20_000 < size < 75_000
    assert made.cut == 60
    assert made.limit in items.LIMITS
    first = unpacked(str(made.blocks[1]).partition(">")[2].removesuffix("</script>"))[0]["answers"][0]
    assert first[2].endswith(f"({first[3] - made.limit:,} more characters)")


def test_a_page_without_items_or_verdicts(tmp_path: Path) -> None:
    write_results(tmp_path, Results(title="scores alone"))
    found = Read(report(tmp_path, tmp_path / "out.html").read_text(encoding="utf-8"))
    assert "items" not in [a.get("id") for t, a in found.tags if t == "section"]


def test_rows_of_items_that_were_never_asked_are_told() -> None:
    verdict = Verdict(item="gone", models=("a",), judge="j", score=1.0)
    evaluation = Evaluation(items=[Item(id="1", prompt="why")], verdicts=[verdict])
    assert "1 items have answers, verdicts or scores but no row in items.jsonl: gone" in page(results(), evaluation)


def test_errors_of_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(tmp_path / "nothing")]) == 2
    assert "is not there" in capsys.readouterr().err
    write_results(tmp_path, Results(title="x"))
    assert main(["report", str(tmp_path), "-o", "/dev/null/x.html"]) == 2
    assert "cannot be written" in capsys.readouterr().err


# ---- sentences ------------------------------------------------------------------------------------------------------


def of_pair(value: float, half: float, detectable: float | None = None) -> str:
    pair = Pair(a="A", b="B", judge="j", wins=1, ties=0, losses=1, win_rate=of(value, half), detectable=detectable)
    return str(headline(Results(title="x", sections=Sections(pairs=[pair])))[0])


def test_the_headline_claims_no_more_than_the_interval() -> None:
    said = "<strong>A</strong> wins against <strong>B</strong> by j in"
    assert of_pair(0.7, 0.1) == f"{said} 70.0 % [60.0, 80.0] of the prompts; the interval excludes 50 %."
    assert of_pair(0.55, 0.1, 0.14) == (
        f"{said} 55.0 % [45.0, 65.0] of the prompts: they cannot be told apart; 14.0 points from 50 % would have shown."
    )
    row = Difference(a="A", b="B", task="t", metric="m", difference=of(0.02, 0.05))
    assert str(headline(Results(title="x", sections=Sections(differences=[row])))[0]).endswith("cannot be told apart.")


def test_the_headline_of_a_leaderboard_names_who_is_tied() -> None:
    said = str(headline(results())[0])
    assert said.startswith("<strong>org/base</strong> leads with a rating of 1,100 Elo [1,050, 1,150]; it cannot be")
    assert "tuned &lt;/title&gt;" in said


def test_the_matrix_has_both_sides_and_the_order_of_the_leaderboard() -> None:
    matrix = matrices(results())[0]
    assert matrix.models == list(MODELS)
    assert [cell.words for cell in matrix.rows[0]] == ["", "62.0", "62.0"]
    assert [cell.words for cell in matrix.rows[2]] == ["38.0", "38.0", ""]
    assert matrix.rows[0][1].kind == "over sure"
    assert matrix.rows[2][0].hint == "38.0 % [28.0, 48.0]"


def test_a_damaged_results_file_makes_no_page(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text('{"schema": 99}')
    with pytest.raises(UserError, match="this version of align-eval reads 1"):
        report(tmp_path)

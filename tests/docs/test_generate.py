"""What pages are made of: comments of fields, parts of documents, cells of tables, formulas."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from align.system.ranges import Positive
from docs.generate.comments import meanings
from docs.generate.files import included, indented, linked
from docs.generate.mathematics import with_mathml
from docs.generate.studies import results_of
from docs.generate.tables import cell, table


@dataclass(frozen=True, kw_only=True)
class Example:
    """Fields with comments in all places."""

    behind: int = 1  # says it
    longer: str = "a"  # begins behind
    # and goes on
    after: bool = False  # is another
    # stands above,
    # in two lines
    above: list[str] = field(default_factory=list)
    # ---- a part of the class
    rate: Positive = 1e-6  # in <steps>
    silent: float = 0.5


def test_a_meaning_is_behind_its_field_or_above_it() -> None:
    assert meanings(Example) == {
        "behind": "says it", "longer": "begins behind and goes on", "after": "is another",
        "above": "stands above, in two lines", "rate": "in <steps>", "silent": "",
    }  # fmt: skip


def test_a_table_tells_kind_range_default_and_meaning() -> None:
    rows = table(Example, "x").splitlines()
    assert '| <a id="x.behind"></a>`behind` | a whole number | `1` | says it |' in rows
    assert '| <a id="x.rate"></a>`rate` | a number, more than 0 | `1e-6` | in &lt;steps&gt; |' in rows
    assert '| <a id="x.longer"></a>`longer` | text | `a` | begins behind and goes on |' in rows


def test_signs_in_a_cell_are_shown_and_code_stays_code() -> None:
    assert cell("a_b | `c_d|e` <f>") == "a\\_b \\| `c_d\\|e` &lt;f&gt;"


def test_a_section_of_a_document_is_taken_without_its_heading() -> None:
    words = included("CONTRIBUTING.md", "Words")
    assert words.startswith("One word has one meaning here")
    assert "| policy |" in words
    assert "## " not in words
    assert included("SECURITY.md").startswith("What `align` trusts")
    with pytest.raises(ValueError, match=r"has no section 'Nothing'"):
        included("CONTRIBUTING.md", "Nothing")


def test_links_lead_to_pages_and_lists_are_indented_but_code_is_not() -> None:
    assert linked("[a](../SECURITY.md#trusted) [b](x.py)", "launch/README.md") == "[a](security.md#trusted) `b`"
    assert indented("1. a\n   - b\n```\n   c\n```") == "1. a\n    - b\n```\n   c\n```"


def test_formulas_are_drawn_in_parts_that_may_stand_below_each_other() -> None:
    page = '<p><span class="arithmatex">\\(x_1\\)</span></p><div class="arithmatex">\\[a = b, \\qquad c &lt; d\\]</div>'
    drawn = with_mathml(page)
    assert drawn.count("<math") == 3
    assert drawn.count('display="block"') == 2
    assert 'alttext="c &lt; d"' in drawn
    assert "arithmatex\">\\" not in drawn


def test_results_are_the_rows_of_one_method_alone() -> None:
    found = results_of("p3o")
    assert "| `p3o shifted` |" in found
    assert "`ppo`" not in found
    assert results_of("hinge") == ""

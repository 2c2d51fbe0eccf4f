"""Each of the 25 kinds of instructions on answers made by hand: what follows it, and what does not."""

# ruff: noqa: E501, RUF001  a case to a line, and letters of other alphabets
from __future__ import annotations

from typing import Any

import pytest

from align.errors import UserError
from align_eval.records import Answer, Item
from align_eval.scorers.ifeval.check import followed, follows, of_instructions, variants
from align_eval.scorers.ifeval.counting import count_sentences
from align_eval.scorers.ifeval.kinds import KINDS
from align_eval.scorers.ifeval.language import languages
from align_eval.tasks.items import items_of
from align_eval.tasks.task import load

CASES: list[tuple[str, dict[str, Any], str, str]] = [  # kind, arguments, a text that follows, one that does not
    ("keywords:existence", {"keywords": ["river", "boat"]}, "A Boat on the river.", "A boat on the sea."),
    ("keywords:frequency", {"keyword": "sun", "frequency": 2, "relation": "at least"}, "Sun, sunny.", "The sun."),
    ("keywords:frequency", {"keyword": "sun", "frequency": 2, "relation": "less than"}, "The sun.", "Sun and sun."),
    ("keywords:forbidden_words", {"forbidden_words": ["rock"]}, "A rocket flies.", "A Rock falls."),
    ("keywords:letter_frequency", {"letter": "q", "let_frequency": 2, "let_relation": "at least"}, "Quick, quiet", "Quick"),
    ("keywords:letter_frequency", {"letter": "a", "let_frequency": 1, "let_relation": "less than"}, "Bleed", "Bad"),
    ("language:response_language", {"language": "de"}, "Das ist ein schöner Tag.", "This is a fine day."),
    ("length_constraints:number_sentences", {"num_sentences": 3, "relation": "at least"},
     "One is here. Two is there! Is three?", "Mr. Smith paid 3.50 dollars. He left."),
    ("length_constraints:number_sentences", {"num_sentences": 3, "relation": "less than"}, "A b. C d.", "A. B c. D e. F g."),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, "one\n***\ntwo", "one\n\ntwo"),
    ("length_constraints:number_words", {"num_words": 3, "relation": "at least"}, "don't go", "go now"),
    ("length_constraints:number_words", {"num_words": 3, "relation": "less than"}, "go now", "don't go"),
    ("length_constraints:nth_paragraph_first_word", {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "President"},
     "Hello.\n\n\"President, hear us.", "President, hear us.\n\nHello."),
    ("detectable_content:number_placeholders", {"num_placeholders": 2}, "Dear [name] of [town]", "Dear [name]"),
    ("detectable_content:postscript", {"postscript_marker": "P.S."}, "Bye.\n\nP. S. Call me", "Bye. PS call me"),
    ("detectable_content:postscript", {"postscript_marker": "P.P.S"}, "Bye.\nP.P.S again", "Bye.\nP.S. again"),
    ("detectable_format:number_bullet_lists", {"num_bullets": 2}, "* one\n - two", "* one\n* two\n* three"),
    ("detectable_format:number_bullet_lists", {"num_bullets": 1}, "**bold**\n* one", "**bold** words"),
    ("detectable_format:constrained_response", {}, "Well. My answer is maybe.", "My answer is perhaps."),
    ("detectable_format:number_highlighted_sections", {"num_highlights": 2}, "*one* and **two**", "*one* and ** **"),
    ("detectable_format:multiple_sections", {"section_spliter": "SECTION", "num_sections": 2},
     "SECTION 1\na\nSECTION 2\nb", "Section 1\na\nSection 2\nb"),
    ("detectable_format:json_format", {}, '```json\n{"a": [1, 2]}\n```', "{a: 1}"),
    ("detectable_format:title", {}, "<<poem of joy>>\nO joy", "<< >>\nO joy"),
    ("combination:two_responses", {}, "One way.\n******\nAnother way.", "Same.\n******\nSame."),
    ("combination:repeat_prompt", {"prompt_to_repeat": "Say hi."}, " say hi. Hi!", "Hi! Say hi."),
    ("startend:end_checker", {"end_phrase": "Is there more?"}, 'So. is there more?"', "Is there more? No."),
    ("change_case:capital_word_frequency", {"capital_frequency": 2, "capital_relation": "at least"}, "NASA and UN", "NASA and un"),
    ("change_case:capital_word_frequency", {"capital_frequency": 2, "capital_relation": "less than"}, "NASA", "I SAY"),
    ("change_case:english_capital", {}, "THIS IS ALL OF IT.", "THIS is not."),
    ("change_case:english_lowercase", {}, "this is all of it.", "This is not."),
    ("punctuation:no_comma", {}, "No comma; none.", "One, two."),
    ("startend:quotation", {}, ' "All of it." ', '"Only" this'),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "arguments", "good", "bad"), CASES, ids=lambda v: v if isinstance(v, str) else "")
def test_a_text_that_follows_and_one_that_does_not(kind: str, arguments: dict[str, Any], good: str, bad: str):
    assert follows(kind, arguments, good)
    assert not follows(kind, arguments, bad)
    assert not follows(kind, arguments, "  \n")  # an empty answer follows nothing


def test_every_kind_of_the_data_has_a_case():
    kinds = {kind for item in items_of(load("ifeval")) for kind in item.columns["instruction_id_list"]}
    assert len(kinds) == 25
    assert kinds == set(KINDS) == {kind for kind, *_ in CASES}


def test_every_instruction_of_the_data_can_be_asked():
    """834 instructions, each with its own arguments."""
    items = items_of(load("ifeval"))
    found = [followed(item, "Some words.") for item in items]
    assert sum(len(one["strict"]) for one in found) == 834
    assert all(a <= b for one in found for a, b in zip(one["strict"], one["loose"], strict=True))  # loose forgives


def test_forms_that_the_prompts_show_are_followed():
    """The prompts' own examples: what they show as the form that they ask for."""
    assert follows("detectable_format:title", {}, "<<poem of joy>>")
    assert follows("detectable_format:number_highlighted_sections", {"num_highlights": 3},
                   "*highlighted section part 1*, *highlighted section part 2*, *highlighted section part 3*")  # fmt: skip
    assert follows("detectable_content:number_placeholders", {"num_placeholders": 2}, "[address], [name]")
    for said in ("My answer is yes.", "My answer is no.", "My answer is maybe."):
        assert follows("detectable_format:constrained_response", {}, said)


@pytest.mark.parametrize(
    ("kind", "arguments", "text", "right"),
    [
        ("length_constraints:number_sentences", {"num_sentences": 4, "relation": "at least"}, "ab. cd,e! f|g. h(i)j?", True),
        ("length_constraints:number_sentences", {"num_sentences": 5, "relation": "at least"}, "a-b. cd,e! f}g. h,ij?", False),
        ("length_constraints:number_paragraphs", {"num_paragraphs": 3}, "\n   ***\n one\n   ***\n two\n ***\n three\n ***", True),
        ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, "one\n  ***\n two\n ***\n ***", False),
        ("detectable_format:number_bullet_lists", {"num_bullets": 3}, "Stars (*) say:\n  * one\n  *two\n  * three\n  end.", True),
        ("detectable_format:number_bullet_lists", {"num_bullets": 1}, "one\n  ***\n  two\n  * a point\n  ", True),
        ("detectable_format:number_highlighted_sections", {"num_highlights": 2}, "\n *one\n *two*\n *three\n *four\n", False),
        ("detectable_format:number_highlighted_sections", {"num_highlights": 3}, "*a b* and *c d*\n **e f** g", True),
        ("detectable_format:constrained_response", {}, "\n  My answer is no. So it stays.", True),
        ("detectable_content:postscript", {"postscript_marker": "PS:"}, "Bye.\n\n  P.S. Write.", False),
        ("detectable_content:postscript", {"postscript_marker": "P.P.S"}, "Bye.\n  p.p.s what then?", True),
        ("detectable_content:postscript", {"postscript_marker": "P.S."}, "It stands (on the same line) P.S. Write.", True),
        ("detectable_format:multiple_sections", {"section_spliter": "Section", "num_sections": 3},
         'Name it "Section X":\n  Section 1\n  a\n  Section 2\n  b', False),
        ("length_constraints:nth_paragraph_first_word", {"num_paragraphs": 3, "nth_paragraph": 2, "first_word": "We"},
         "one\n\n  We two", False),
    ],
)  # fmt: skip
def test_corners_that_its_authors_test(kind: str, arguments: dict[str, Any], text: str, right: bool):
    """The outcomes are those that they expect in such cases (instructions_test.py); the texts are others. Answers of
    models with published scores do not come with the data, so rates of whole models are not held here."""
    assert follows(kind, arguments, text) == right


def test_loose_forgives_a_first_line_a_last_line_and_stars():
    item = Item(id="1", prompt="", columns={"instruction_id_list": ["startend:quotation"], "kwargs": [{}]})
    for text in ('Sure:\n"Yes."', '"Yes."\nHope it helps!', 'Sure:\n"Yes."\nBye', '*"Yes."*', 'Sure:\n*"Yes."*'):
        assert followed(item, text) == {"strict": [False], "loose": [True]}
    assert followed(item, "Yes.") == {"strict": [False], "loose": [False]}
    assert len(variants("a\nb\nc")) == 8


def test_prompts_and_instructions_are_counted_apart():
    """One of two instructions is followed: the prompt is not, and one half of its instructions are."""
    columns = {"instruction_id_list": ["punctuation:no_comma", "startend:quotation"], "kwargs": [{}, {}]}
    item = Item(id="1", prompt="", columns=columns)
    found = {m: (s, c) for m, s, _, c in of_instructions(load("ifeval"), item, Answer(item="1", model="m", text="No."))}
    assert found["prompt_strict"] == (0.0, {"failed": ["startend:quotation"]})
    assert found["instructions_strict"] == (0.5, {"followed": 1, "of": 2})


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("", 0),
        ("Hello", 1),
        ("Hello. World.", 2),
        ("Dr. No met Mr. X at 5 p.m. in the U.S. capital.", 1),
        ("It costs 3.50 today. Really?! Yes...", 3),
        ("1. First thing\n2. Second thing", 1),
        ("He said 'go.' Then he left.", 2),
        ("all is small. it goes on! and on. does it?", 4),
        ("She has a Ph.D. in law.", 1),
        ("ab,c. de,f! g|h. i&j k?", 4),  # whatever words are made of
    ],
)
def test_sentences(text: str, count: int):
    assert count_sentences(text) == count


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("en", "this is not the end of it"), ("de", "Wir sind heute nicht zu Hause"), ("fi", "Tämä on hyvä päivä"),
        ("it", "Questo è un bel giorno e siamo felici"), ("pt", "Este é um bom dia e nós não estamos"),
        ("sw", "Hii ni siku nzuri na tuna furaha"), ("vi", "Đây là một ngày đẹp"), ("ko", "오늘은 좋은 날입니다"),
        ("hi", "यह एक अच्छा दिन है"), ("mr", "हा एक चांगला दिवस आहे"), ("ne", "यो राम्रो दिन हो र हामी खुसी छौं"),
        ("ru", "Это хороший день"), ("bg", "Това е хубав ден и ние сме щастливи"), ("ar", "هذا يوم جميل في هذا المكان"),
        ("fa", "این یک روز خوب است"), ("ur", "یہ ایک اچھا دن ہے"), ("th", "วันนี้เป็นวันที่ดี"), ("ta", "இன்று நல்ல நாள்"),
        ("te", "ఈ రోజు మంచి రోజు"), ("kn", "ಇಂದು ಒಳ್ಳೆಯ ದಿನ"), ("gu", "આજે સારો દિવસ છે"), ("bn", "আজ একটি ভালো দিন"),
        ("pa", "ਅੱਜ ਚੰਗਾ ਦਿਨ ਹੈ"),
    ],
)  # fmt: skip
def test_languages_that_the_data_ask_for(language: str, text: str):
    assert languages(text) == {language}


def test_an_unknown_kind_is_refused():
    with pytest.raises(UserError, match="Did you mean punctuation:no_comma"):
        follows("punctuation:no_coma", {}, "a")

"""A checker for each kind of instruction, by its name in the data: the text and the instruction's arguments in, whether
the text follows it out. Relations are `at least` and `less than`."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

from align_eval.scorers.ifeval.counting import (
    capital_words,
    count_sentences,
    count_words,
    first_word_of,
    paragraphs_by_gap,
    parts_between,
)
from align_eval.scorers.ifeval.language import is_in

Checker = Callable[..., bool]
KINDS: dict[str, Checker] = {}
ANSWERS = ("My answer is yes.", "My answer is no.", "My answer is maybe.")
STARS = "***"  # between paragraphs
SIX = "******"  # between two answers
AGAINST = '"'


def kind(name: str) -> Callable[[Checker], Checker]:
    """Notes a checker under the name that the data have for it."""

    def noted(checker: Checker) -> Checker:
        KINDS[name] = checker
        return checker

    return noted


def related(count: int, relation: str, number: int) -> bool:
    return count < number if relation == "less than" else count >= number


# ---- words and letters ----------------------------------------------------------------------------------------------


@kind("keywords:existence")
def _keywords(text: str, keywords: list[str]) -> bool:
    return all(re.search(re.escape(word), text, re.IGNORECASE) for word in keywords)


@kind("keywords:frequency")
def _frequency(text: str, keyword: str, frequency: int, relation: str) -> bool:
    return related(len(re.findall(re.escape(keyword), text, re.IGNORECASE)), relation, frequency)


@kind("keywords:forbidden_words")
def _forbidden(text: str, forbidden_words: list[str]) -> bool:
    """As words: `rock` is not in `rocket`."""
    return not any(re.search(rf"\b{re.escape(word)}\b", text, re.IGNORECASE) for word in forbidden_words)


@kind("keywords:letter_frequency")
def _letters(text: str, letter: str, let_frequency: int, let_relation: str) -> bool:
    return related(text.lower().count(letter.lower()), let_relation, let_frequency)


@kind("language:response_language")
def _language(text: str, language: str) -> bool:
    return is_in(text, language)


# ---- how long -------------------------------------------------------------------------------------------------------


@kind("length_constraints:number_words")
def _words(text: str, num_words: int, relation: str) -> bool:
    return related(count_words(text), relation, num_words)


@kind("length_constraints:number_sentences")
def _sentences(text: str, num_sentences: int, relation: str) -> bool:
    return related(count_sentences(text), relation, num_sentences)


@kind("length_constraints:number_paragraphs")
def _paragraphs(text: str, num_paragraphs: int) -> bool:
    """Between lines of three asterisks; none of them empty."""
    parts = parts_between(text, STARS)
    return all(parts) and len(parts) == num_paragraphs


@kind("length_constraints:nth_paragraph_first_word")
def _first_word(text: str, num_paragraphs: int, nth_paragraph: int, first_word: str) -> bool:
    """Paragraphs are set apart by an empty line."""
    paragraphs = paragraphs_by_gap(text)
    if not 1 <= nth_paragraph <= len(paragraphs) or len(paragraphs) != num_paragraphs:
        return False
    return first_word_of(paragraphs[nth_paragraph - 1]) == first_word.lower()


# ---- what is in it --------------------------------------------------------------------------------------------------


@kind("detectable_content:number_placeholders")
def _placeholders(text: str, num_placeholders: int) -> bool:
    return len(re.findall(r"\[.*?\]", text)) >= num_placeholders


@kind("detectable_content:postscript")
def _postscript(text: str, postscript_marker: str) -> bool:
    """P.S. and P.P.S may have blanks after their full stops."""
    marker = {"P.S.": r"p\.\s?s\.", "P.P.S": r"p\.\s?p\.\s?s"}.get(postscript_marker.strip())
    return re.search(marker or re.escape(postscript_marker.strip().lower()), text.lower()) is not None


@kind("detectable_format:number_bullet_lists")
def _bullets(text: str, num_bullets: int) -> bool:
    """Lines that begin with * or -; exactly so many."""
    stars = re.findall(r"^\s*\*[^*].*$", text, re.MULTILINE)
    return len(stars) + len(re.findall(r"^\s*-.*$", text, re.MULTILINE)) == num_bullets


@kind("detectable_format:constrained_response")
def _constrained(text: str) -> bool:
    return any(answer in text for answer in ANSWERS)


@kind("detectable_format:number_highlighted_sections")
def _highlights(text: str, num_highlights: int) -> bool:
    """*One* and **two** asterisks; each must hold something."""
    single = [part for part in re.findall(r"\*([^\n*]*)\*", text) if part.strip()]
    double = [part for part in re.findall(r"\*\*([^\n*]*)\*\*", text) if part.strip()]
    return len(single) + len(double) >= num_highlights


@kind("detectable_format:multiple_sections")
def _sections(text: str, section_spliter: str, num_sections: int) -> bool:
    """SECTION 1, SECTION 2, ..."""
    return len(re.findall(rf"\s?{re.escape(section_spliter.strip())}\s?\d+\s?", text)) >= num_sections


@kind("detectable_format:json_format")
def _json(text: str) -> bool:
    """All of it, perhaps within a fence."""
    inside = re.sub(r"^```(?:json)?|```$", "", text.strip(), flags=re.IGNORECASE).strip()
    try:
        json.loads(inside)
    except (ValueError, RecursionError):
        return False
    return True


@kind("detectable_format:title")
def _title(text: str) -> bool:
    """<<in double angular brackets>>, with something in them."""
    return any(found.lstrip("<").rstrip(">").strip() for found in re.findall(r"<<[^\n]+>>", text))


# ---- together -------------------------------------------------------------------------------------------------------


@kind("combination:two_responses")
def _two(text: str) -> bool:
    """Two answers that differ, set apart by six asterisks."""
    parts = parts_between(text, SIX)
    return len(parts) == 2 and all(parts) and parts[0] != parts[1]


@kind("combination:repeat_prompt")
def _repeated(text: str, prompt_to_repeat: str) -> bool:
    return text.strip().lower().startswith(prompt_to_repeat.strip().lower())


# ---- beginning, end, case, punctuation ------------------------------------------------------------------------------


@kind("startend:end_checker")
def _ending(text: str, end_phrase: str) -> bool:
    return text.strip().strip(AGAINST).lower().endswith(end_phrase.strip().lower())


@kind("startend:quotation")
def _quoted(text: str) -> bool:
    whole = text.strip()
    return len(whole) > 1 and whole[0] == AGAINST and whole[-1] == AGAINST


@kind("change_case:capital_word_frequency")
def _capitals(text: str, capital_frequency: int, capital_relation: str) -> bool:
    return related(len(capital_words(text)), capital_relation, capital_frequency)


@kind("change_case:english_capital")
def _upper(text: str) -> bool:
    return text.isupper() and is_in(text, "en")


@kind("change_case:english_lowercase")
def _lower(text: str) -> bool:
    return text.islower() and is_in(text, "en")


@kind("punctuation:no_comma")
def _commaless(text: str) -> bool:
    return "," not in text

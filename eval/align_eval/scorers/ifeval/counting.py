"""What instructions count: words, sentences, paragraphs, words in capitals."""

from __future__ import annotations

import re

WORD = re.compile(r"\w+")
TOKEN = re.compile(r"\w+(?:[-.'\u2019&/]\w+)*")
QUOTES = "\"'\u201c\u201d\u2018\u2019"
ABBREVIATIONS = """
mr mrs ms dr prof sr jr st vs etc e.g i.e cf no vol fig inc ltd co corp dept est approx gen col sgt capt lt rev hon
jan feb mar apr jun jul aug sep sept oct nov dec u.s u.k p.s p.p.s a.m p.m
"""
SHORT = frozenset(ABBREVIATIONS.split())  # words that a full stop follows without ending a sentence
ENDS = re.compile(r"([.!?\u0964\u06d4\u061f\u3002\uff01\uff1f]+)([\"'\u201d\u2019)\]*_]*)(?=\s|$)")


def count_words(text: str) -> int:
    """Runs of letters, digits and underscores: don't is two."""
    return len(WORD.findall(text))


def count_sentences(text: str) -> int:
    """Ends of sentences, and what is left behind the last one.

    A full stop ends none behind an abbreviation, an initial or the number of a list, nor between a word with a full
    stop in it and a small letter (Ph.D. in); a sentence may begin with a small letter.
    """
    count, start = 0, 0
    for end in ENDS.finditer(text):
        said, rest = text[start : end.start()], text[end.end() :].lstrip()
        if end[1] == "." and _goes_on(said, rest):
            continue
        if WORD.search(said):
            count += 1
        start = end.end()
    return count + bool(WORD.search(text[start:]))


def _goes_on(said: str, rest: str) -> bool:
    words = said.split()
    last = words[-1].strip(QUOTES + "([*_").lower() if words else ""
    initial = len(last) == 1 and last != "i" and words[-1][-1:].isupper()
    of_a_list = last.isdigit() and (len(words) == 1 or said.rpartition("\n")[2].strip() == last)
    return last in SHORT or initial or of_a_list or ("." in last and rest[:1].islower())


def capital_words(text: str) -> list[str]:
    """Words whose letters are all capitals; `I` and `A` are some."""
    return [word for word in TOKEN.findall(text) if word.isupper()]


def parts_between(text: str, divider: str) -> list[str]:
    """Stripped; empty ones at the beginning and at the end are left out, those in the middle stay, empty."""
    parts = [part.strip() for part in re.split(rf"\s?{re.escape(divider)}\s?", text)]
    if len(parts) > 1 and not parts[0]:
        parts = parts[1:]
    if len(parts) > 1 and not parts[-1]:
        parts = parts[:-1]
    return parts


def paragraphs_by_gap(text: str) -> list[str]:
    """Set apart by an empty line; empty ones do not count."""
    return [part.strip() for part in text.split("\n\n") if part.strip()]


def first_word_of(paragraph: str) -> str:
    """In small letters, without quotes before it and punctuation behind it."""
    word = paragraph.split()[0].lstrip(QUOTES)
    return re.split(r"[.,?!'\"\u2019]", word)[0].lower()

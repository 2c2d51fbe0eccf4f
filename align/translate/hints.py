"""Sentences of messages about other projects' words: a foreign word is a mistake that names ours.

Nothing is translated in silence where a recipe is read; `align translate` makes one of another project's file.
"""

from __future__ import annotations

from collections.abc import Iterable

from align.translate.origin import whose
from align.translate.plain import SECTIONS as SECTIONS_HERE
from align.translate.words import PROJECTS, Words, table, trainers, words_of

LOSS_TYPES: dict[str, str] = table("common")["loss_types"]  # TRL's values of loss_type: the method's name here
SECTIONS: dict[str, str] = table("common")["sections"]  # other names of sections


def translate_knob(word: str, knobs: Iterable[str], methods: Iterable[str]) -> str:
    """` word: here `clip_range`.` for a foreign knob that this method has; why not, where it has none; else empty."""
    known: dict[str, str] = table("common")["knobs"]
    if word == "loss_type":
        return " Here every loss is a method of its own: set method.name."
    if word in ("label_smoothing", *(w for w, ours in known.items() if ours == "label_smoothing")):
        others = [m for m in ("cdpo", "robust") if m in methods]
        if "label_smoothing" not in set(knobs) and others:
            return f" Wrong labels are modelled by the methods {' and '.join(others)}."
    places = (words_of("trl", trainer).here.get(word, "") for trainer in trainers("trl"))
    names = [known.get(word, ""), *(place.removeprefix("method.") for place in places)]
    ours = next((name for name in names if name in set(knobs)), "")
    return f" {word}: here `{ours}`." if ours else ""


def translate_key(word: str) -> str:
    """` word: here `optim.learning_rate`.` for a foreign word, or why there is none here; else an empty string."""
    own = table("common")["here"]
    for words in (words_of("trl"), own, *(words_of(name) for name in PROJECTS[1:])):
        if said := _said(words, word):
            return said
    return ""


def _said(words: Words | dict[str, str], word: str) -> str:
    if isinstance(words, dict):
        return f" {word}: here `{words[word]}`." if word in words else ""
    if place := words.here.get(word):
        return f" Here: {place.strip('()')}." if " " in place.split(".")[0] else f" {word}: here `{place}`."
    why = words.no_meaning.get(word) or words.not_offered.get(word)
    return f" Here: {why}." if why else ""


def of_option(error: Exception) -> str:
    """How a recipe's key is set where other projects have the option that there is none of; empty for other errors, and
    where it is nobody's word."""
    option = str(getattr(error, "option_name", "")).lstrip("-").replace("-", "_")
    if option.split(".")[0] in SECTIONS_HERE and "." in option:
        return f"--{option}: keys of a recipe are set without dashes; write it as {option}=VALUE"
    if not (found := translate_key(option)):
        return ""
    place = found.split("`")[1] if "`" in found else ""
    example = f"; write it as {place}=VALUE" if "." in place and " " not in place else ""
    return f"--{option}: keys of a recipe are set without dashes{example}.{found}"


def foreign(values: dict[str, object], path: str) -> str:
    """What to say of a file that is another project's config; empty where it is none."""
    project = whose(dict(values))
    if not project:
        return ""
    return f"is a config of {table(project)['project']}; `align translate {path} -o recipe.yaml` makes a recipe of it"

"""A run folder as a model's name: which checkpoint of it is meant, and what its own recipe says of the model.

That recipe is read without the checks that training makes: its data may be gone.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from align.data.settings import DataSection
from align.errors import Mistakes, UserError
from align.methods.base import Method, find_method
from align.models.settings import CriticSection, ModelSection, SoupSection
from align.recipe.text import Written, read
from align.recipe.types import build
from align.runfolder.checkpoint import verify
from align.runfolder.unended import is_unended, newest_first, nothing_to_take, taken
from align.translate.hints import LOSS_TYPES


@dataclass(frozen=True, kw_only=True)
class Past:
    """What a run's weights are of."""

    method: Method[Any]
    model: ModelSection
    data: DataSection


def past_of(run: Path) -> Past:
    """What the recipe in a run folder says. UserError where there is none, or where it is of another align."""
    place = run / "recipe.yaml"
    if not place.is_file():
        raise UserError(f"{place}: is not there, and says which model the checkpoint is of; put the run folder back")
    written = read(place)
    knobs = written.get("method")
    if not isinstance(knobs, dict) or not isinstance(name := knobs.get("name"), str):
        raise UserError(f"{place}: method.name: missing; put back the recipe that the run has written")
    cls = find_method(LOSS_TYPES.get(name, name))
    method = build(written, "method", cls, {key: value for key, value in knobs.items() if key != "name"})
    model = build(written, "model", ModelSection, written.get("model") or {})
    data = build(written, "data", DataSection, written.get("data") or {})
    if written.mistakes or method is None or model is None or data is None:
        raise Mistakes(written.mistakes)
    return Past(method=method, model=model, data=data)


def base_of(run: Path) -> str:
    """The model that a run began with, by name; empty where it has new tokens, or names none that is here."""
    try:
        model = past_of(run).model
    except UserError:
        return ""
    return "" if model.add_tokens else str(run / "init") if model.config else model.model_name_or_path


def settled(written: Written, section: ModelSection) -> tuple[ModelSection, tuple[str, ...]]:
    """The section with each run that has no `final/` yet named by its newest good checkpoint, so that the recipe says
    which weights were meant when the run has gone on; and what is to be said."""
    notes: list[str] = []

    def named(key: str, name: str) -> str:
        found, said = _newest(name)
        if said and not found:
            written.wrong(f"model.{key}", said)
        elif said:
            notes.append(f"model.{key}: {said}")
        return found or name

    own = {key: named(key, getattr(section, key)) for key in ("model_name_or_path", "tokenizer_name_or_path")}
    reference, critic = section.reference, section.critic
    if isinstance(reference, SoupSection):
        soup = [named(f"reference.soup.{i}", name) for i, name in enumerate(reference.soup)]
        reference = dataclasses.replace(reference, soup=soup)
    if isinstance(critic, CriticSection):
        name = named("critic.model_name_or_path", critic.model_name_or_path)
        critic = dataclasses.replace(critic, model_name_or_path=name)
    changes: dict[str, Any] = {
        **own, "reference": reference, "critic": critic,
        "ref_model_name_or_path": named("ref_model_name_or_path", section.ref_model_name_or_path),
        "roles": {role: named(f"roles.{role}", name) for role, name in section.roles.items()},
    }  # fmt: skip
    return dataclasses.replace(section, **changes), tuple(notes)


def _newest(name: str) -> tuple[str, str]:
    """The checkpoint that a run's folder stands for, and what is to be said; of another name nothing."""
    run = Path(name).expanduser()
    if not name or not is_unended(run):
        return "", ""
    found = newest_first(run)
    good = next((path for path in found if not verify(path, sums=False)), None)
    if good is None:
        return "", nothing_to_take(run)
    damaged = ", ".join(path.name for path in found[: found.index(good)])
    passed = f"; passed over as damaged: {damaged}" if damaged else ""
    return str(Path(name) / good.relative_to(run)), f"{taken(run, good)}{passed}"

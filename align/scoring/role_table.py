"""Who makes each stored column, by the role that its prefix names: one table for check, assembly, identity and pages.

    old_       the policy itself, before the step
    sampler_   the engine, while it writes
    ref_       the frozen reference: `model.reference`, `model.ref_model_name_or_path`
    NAME_      any other: a copy of the policy, if the method moves one of this name (`moves`), or else the frozen
               model that `model.roles` names so

A column is made by its role, always, but for two exceptions: a role all of whose weighing knobs (`weight`, there is at
least one) are 0 is not loaded unless the recipe names it, and where an experience lasts for one step, `old_logps` are
the step's own log-probabilities, unless the method looks at them before the step.

A role's model need not be frozen: `ModelRole` scores anew for every experience, whoever moves the weights in between.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, fields
from typing import Any

from align.methods.base import Method
from align.models.settings import ModelSection
from align.needs import Needs, copies_of

POLICY, ENGINE, REFERENCE = "old", "sampler", "ref"


@dataclass(frozen=True)
class Maker:
    """Who answers to a role."""

    words: str
    columns: tuple[str, ...]  # live names of what it can make


MAKERS = {
    POLICY: Maker("policy before the step", ("logps", "entropies", "values")),
    ENGINE: Maker("engine that writes", ("logps",)),
    REFERENCE: Maker("reference", ("logps", "entropies")),
}


def maker(role: str) -> Maker:
    return MAKERS.get(role) or Maker(role, MAKERS[REFERENCE].columns)


def models_of(needs: Needs) -> tuple[str, ...]:
    """The roles that are models beside the policy."""
    return tuple(role for role in needs.roles() if role not in (POLICY, ENGINE))


def named_by(needs: Needs) -> tuple[str, ...]:
    """The roles whose models the recipe must name in `model.roles`."""
    return tuple(role for role in models_of(needs) if role != REFERENCE)


def idle(method: Method[Any], role: str) -> bool:
    """Whether knobs weigh the role, and all of them are 0."""
    knobs = [f.name for f in fields(method) if role in f.metadata.get("weighs", ())]
    return bool(knobs) and not any(getattr(method, knob) for knob in knobs)


def weighs(method: Method[Any], role: str) -> bool:
    """Whether a knob that is not 0 weighs the role."""
    knobs = (f.name for f in fields(method) if role in f.metadata.get("weighs", ()))
    return any(getattr(method, knob) != 0 for knob in knobs)


def loaded(method: Method[Any], section: ModelSection) -> tuple[str, ...]:
    """The roles whose frozen models a run has beside the policy."""

    def named(role: str) -> bool:
        if role == REFERENCE:
            return section.reference != "auto" or bool(section.ref_model_name_or_path)
        return role in section.roles

    moving = copies_of(method)
    wanted = (role for role in models_of(method.needs()) if role not in moving)
    return tuple(role for role in wanted if named(role) or not idle(method, role))


def held_against(method: type[Method[Any]], engine: str) -> str:
    """The role whose greedy completions those of the policy must beat in evaluations, where rewards are of a game: the
    reference, unless a server writes, which has only the policy. Empty: nobody."""
    plays = getattr(method, "plays", False) and REFERENCE in method.needs().roles()
    return REFERENCE if plays and engine == "local" else ""


def section_of(section: ModelSection, role: str) -> tuple[ModelSection, str]:
    """The model of a role, as the reference of a section; and the recipe's key that names it."""
    if role == REFERENCE:
        return section, "ref_model_name_or_path"
    named = section.roles[role]
    return dataclasses.replace(section, reference="copy", ref_model_name_or_path=named), f"roles.{role}"

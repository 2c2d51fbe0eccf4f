"""Which frozen models a recipe names beside the policy, by fingerprint."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from align.errors import UserError
from align.models.load import Where, where
from align.models.save import fingerprint
from align.models.settings import ModelSection


def reference_weights(section: ModelSection) -> str:
    """The fingerprints of the frozen models that the recipe names; a run that is resumed must find them again.

    UserError, which names the recipe's key, where one is not there.
    """
    return "".join(fingerprint(places.adapter or places.weights) for places in references(section).values())


def references(section: ModelSection) -> dict[str, Where]:
    """Key of the section -> where the frozen model lies that it names. UserError where one is not there."""
    found: dict[str, Where] = {}
    for key, name in section.others().items():
        try:
            found[key] = where(dataclasses.replace(section, model_name_or_path=name, config={}), Path())
        except UserError as error:
            raise UserError(f"model.{key}: {error}") from None
    return found

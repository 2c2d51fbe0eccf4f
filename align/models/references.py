"""Which models a recipe names as references, by fingerprint."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from align.errors import UserError
from align.models.load import Where, where
from align.models.save import fingerprint
from align.models.settings import ModelSection, SoupSection


def reference_weights(section: ModelSection) -> str:
    """The fingerprints of the models that the recipe names as references; a run that is resumed must find them again.

    UserError, which names the recipe's key, where one is not there.
    """
    return "".join(fingerprint(places.adapter or places.weights) for places in references(section).values())


def references(section: ModelSection) -> dict[str, Where]:
    """Key of the section -> where the model lies that it names as a reference. UserError where one is not there."""
    soup = section.reference.soup if isinstance(section.reference, SoupSection) else []
    names = [(f"reference.soup.{i}", name) for i, name in enumerate(soup)]
    names += [("ref_model_name_or_path", name) for name in [section.ref_model_name_or_path] if name]
    found: dict[str, Where] = {}
    for key, name in names:
        try:
            found[key] = where(dataclasses.replace(section, model_name_or_path=name, config={}), Path())
        except UserError as error:
            raise UserError(f"model.{key}: {error}") from None
    return found

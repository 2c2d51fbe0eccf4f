"""Placeholder of an OpenAI-compatible endpoint."""

from __future__ import annotations

from align.errors import UserError
from align_eval.generation.asked import Model
from align_eval.generation.settings import Settings


def endpoint_of(name: str, url: str, settings: Settings) -> Model:
    raise UserError(f"{url}: endpoints do not write here yet")

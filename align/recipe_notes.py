"""What is worth knowing of a model before it is trained, read off its config and the recipe."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from align.errors import UserError
from align.models.settings import ModelSection
from align.recipe_models import read_config


def model_notes(sections: dict[str, Any]) -> tuple[str, ...]:
    """Sentences to be said once."""
    model: ModelSection = sections["model"]
    return tuple(_router(model, config_of(model)))


def config_of(m: ModelSection) -> dict[str, Any]:
    """The text model's part of the config; empty where it cannot be read here."""
    try:
        config = m.config or (read_config(m.model_name_or_path) if m.model_name_or_path else {})
    except (UserError, OSError, ValueError):
        return {}
    return config.get("text_config", config)


def _router(m: ModelSection, config: dict[str, Any]) -> Iterator[str]:
    if m.router_aux_loss_coef is None and config.get("output_router_logits"):
        coef = config.get("router_aux_loss_coef")
        weight = f" ({coef:g})" if isinstance(coef, int | float) else ""
        yield (
            f"model.router_aux_loss_coef: the model's config asks for the loss of its routers{weight}, which is added "
            "only where the recipe gives it a weight; 0 leaves it out and says nothing"
        )

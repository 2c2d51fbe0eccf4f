"""What is worth knowing of a model before it is trained, read off its config and the recipe."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from align.errors import UserError
from align.models.settings import ModelSection
from align.recipe.look_at_models import read_config
from align.system.extras import LACKING, has_bitsandbytes
from align.training.optim import EIGHT_BIT
from align.training.settings import OptimSection

BF16_HALF = 2**-9  # of a number: what is less than this share of it is rounded away when it is added


def model_notes(sections: dict[str, Any]) -> tuple[str, ...]:
    """Sentences to be said once."""
    model: ModelSection = sections["model"]
    lacking = what_lacks(model, sections["optim"])
    return (*_router(model, config_of(model)), *_precision(model, sections["optim"]), *lacking)


def what_lacks(model: ModelSection, optim: OptimSection) -> list[str]:
    """Keys whose package is not installed here; a recipe may be checked where it is not trained."""
    asked = {"model.load_in_4bit": model.load_in_4bit, f"optim.optim: {optim.optim}": optim.optim in EIGHT_BIT}
    return [f"{key}: {LACKING}" for key, wanted in asked.items() if wanted and not has_bitsandbytes()]


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


def _precision(m: ModelSection, optim: OptimSection) -> Iterator[str]:
    """Adapters have float32 weights of their own, whatever those beneath have."""
    if m.dtype == "float16" and m.lora is not None:
        yield (
            "model.dtype: float16: small gradients on their way to the adapter become 0, and no loss scaler is here; "
            "bfloat16 does not need one"
        )
    largest = optim.learning_rate / BF16_HALF
    if m.dtype == "bfloat16" and m.lora is None and not optim.masters and largest < 1:
        yield (
            f"model.dtype: bfloat16: no weight above {largest:.2g} will move: a step of learning_rate "
            f"{optim.learning_rate:g} is less than half of what bfloat16 can tell apart there, and no float32 masters "
            "are kept (but by DeepSpeed). optim.masters: true keeps them; so does model.dtype: auto with "
            "training.mixed_precision: bf16, whose weights are float32"
        )

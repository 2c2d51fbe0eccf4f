"""What a model goes on to write, one sequence at a time: greedily, or at a temperature, and by nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from transformers import GenerationConfig

from align.models.parts import unwrapped
from align.models.tokenizer import stop_ids


@torch.no_grad()
def continued(
    model: Any,
    tokenizer: Any,
    prompt: Sequence[int],
    max_new_tokens: int,
    temperature: float = 0.0,
    streamer: Any = None,
) -> list[int]:
    """The ids behind `prompt`, a stop id at their end where there is one. Temperature 0 takes the likeliest token.

    Of the folder's generation config the stop ids count alone: penalties, beams and the like would draw from another
    distribution than the model's.
    """
    inner = unwrapped(model)
    ids = torch.tensor([list(prompt)], device=inner.device)
    drawn: dict[str, Any] = {"do_sample": True, "temperature": temperature, "top_k": 0} if temperature > 0 else {}
    asked = GenerationConfig(
        max_new_tokens=max_new_tokens, eos_token_id=list(stop_ids(tokenizer, inner)),
        pad_token_id=tokenizer.pad_token_id, **drawn,
    )  # fmt: skip
    with without_defaults(inner):
        out = inner.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), generation_config=asked, streamer=streamer,
            synced_gpus=False,
        )  # fmt: skip
    return out[0, ids.shape[1] :].tolist()


@contextmanager
def without_defaults(model: Any) -> Iterator[None]:
    """While this lasts, the model's generation config says nothing.

    transformers fills what `generate` is not told with it, and refuses to save what it has read.
    """
    before = getattr(model, "generation_config", None)  # a scalar head writes nothing
    if before is None:
        yield
        return
    model.generation_config = GenerationConfig()
    try:
        yield
    finally:
        model.generation_config = before

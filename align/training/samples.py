"""What the policy writes: greedy completions of a few held-out prompts, before and after training."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from align.batches import Group
from align.training.distributed import World
from align.training.metrics import Completion


def distinct_prompts(groups: Sequence[Group], count: int) -> list[list[int]]:
    """The first `count` different prompts, as token ids."""
    found: dict[bytes, list[int]] = {}
    for group in groups:
        prompt = group.members[0].prompt
        if len(found) < count:
            found.setdefault(prompt.tobytes(), prompt.tolist())
    return list(found.values())


def complete(
    model: Any, tokenizer: Any, prompts: Sequence[list[int]], max_new_tokens: int, step: int, world: World
) -> list[Completion]:
    """Greedy completions on the main process; under ZeRO-3 the others lend it their shards meanwhile."""
    was_training = model.training
    model.eval()
    made: list[Completion] = []
    with torch.no_grad(), _whole(model, world):
        if world.main:
            made = [_one(model, tokenizer, prompt, max_new_tokens, step) for prompt in prompts]
    model.train(was_training)
    world.barrier()
    return made


def _one(model: Any, tokenizer: Any, prompt: list[int], max_new_tokens: int, step: int) -> Completion:
    ids = torch.tensor([prompt], device=model.device)
    out = model.generate(
        input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=max_new_tokens, do_sample=False,
        pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    written = out[0, len(prompt) :].tolist()
    stops = model.generation_config.eos_token_id
    ended = bool(written) and written[-1] in ([stops] if isinstance(stops, int) else stops or [])
    return Completion(
        step=step,
        policy_version=step,
        prompt=tokenizer.decode(prompt, skip_special_tokens=True),
        text=tokenizer.decode(written, skip_special_tokens=True),
        prompt_length=len(prompt),
        completion_length=len(written),
        stop_reason="eos" if ended else "length",
    )


def _whole(model: Any, world: World) -> AbstractContextManager[Any]:
    if world.sharding != "zero3":
        return nullcontext()
    import deepspeed

    return deepspeed.zero.GatheredParameters(list(model.parameters()))

"""What the policy writes: greedy completions of a few held-out prompts, before and after training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from align.batches import Group
from align.models.generate import continued
from align.models.load import writing
from align.models.parts import unwrapped
from align.models.tokenizer import stop_ids
from align.runfolder.logs import Completion
from align.world.distributed import World
from align.world.shards import held


def distinct_prompts(groups: Sequence[Group], count: int) -> list[list[int]]:
    """The first `count` different prompts, as token ids."""
    found: dict[bytes, list[int]] = {}
    for group in groups:
        prompt = group.members[0].prompt
        if len(found) < count:
            found.setdefault(prompt.tobytes(), prompt.tolist())
    return list(found.values())


def complete(
    module: Any, tokenizer: Any, prompts: Sequence[list[int]], max_new_tokens: int, step: int, world: World
) -> list[Completion]:
    """Greedy completions by the prepared `module`, on the main process; elsewhere an empty list.

    Shards are put together on every rank meanwhile (`logging.num_completions: 0` where they do not fit).
    """
    scorer = world.unwrap(module)
    model, was_training = scorer.model, scorer.model.training
    model.eval()
    made: list[Completion] = []
    with torch.no_grad(), unsharded(module, world), writing(model):
        if world.main:
            made = [_one(model, tokenizer, prompt, max_new_tokens, step) for prompt in prompts]
    model.train(was_training)
    world.barrier()
    return made if world.main else []


def _one(model: Any, tokenizer: Any, prompt: list[int], max_new_tokens: int, step: int) -> Completion:
    written = continued(model, tokenizer, prompt, max_new_tokens)
    ended = bool(written) and written[-1] in stop_ids(tokenizer, unwrapped(model))
    return Completion(
        step=step,
        policy_version=step,
        prompt=tokenizer.decode(prompt, skip_special_tokens=True),
        text=tokenizer.decode(written, skip_special_tokens=True),
        prompt_length=len(prompt),
        completion_length=len(written),
        stop_reason="eos" if ended else "length",
    )


@contextmanager
def unsharded(module: Any, world: World) -> Iterator[None]:
    """All weights on every rank, so that ranks may call the model unequally often. All ranks enter and leave."""
    if world.sharding == "zero3":
        import deepspeed

        with deepspeed.zero.unwrap_model_for_generation(module):
            yield
    elif world.sharding == "fsdp2":
        with held(module):
            yield
    else:
        yield

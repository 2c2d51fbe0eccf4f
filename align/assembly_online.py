"""The policy's own completions as the source of a run's experience."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from align.assembly_parts import Parts, count_steps
from align.assembly_server import server_engines
from align.data.store import Store
from align.errors import UserError, did_you_mean
from align.methods.base import weighs
from align.models.parts import unwrapped
from align.rewards.judge import make_judge
from align.rewards.shape import piece
from align.rollout.engine import Sampling
from align.training.dialogue import Turns, find_environment
from align.training.engines import Engines, LocalEngines, text_of
from align.training.experience import ModelRole, Role
from align.training.harvest import Harvester
from align.training.online import Online
from align.training.rollout_log import RolloutLog
from align.training.runfolder import RunFolder
from align.training.writing import Prompt, Writer


def online_source(parts: Parts, folder: RunFolder, say: Callable[[str], Any]) -> Online:
    recipe, store = parts.recipe, parts.splits.train
    rollout, world = recipe.rollout, parts.reader.world
    check_room(parts)
    judge = make_judge(recipe.reward)
    known = ["reward", "completion_length", "truncated", *(f"rewards/{name}" for name in judge.functions)]
    if (name := recipe.training.metric_for_best_model) not in known:
        there = f"where the policy writes there are {', '.join(known)}"
        raise UserError(f"training.metric_for_best_model: no such metric: {name}; {there}.{did_you_mean(name, known)}")
    mixture = parts.splits.mixture(recipe.training.seed)

    def prompts(start: int, stop: int) -> list[Prompt]:
        return [prompt_of(store, int(i), start + n) for n, i in enumerate(mixture.rows(start, stop))]

    sampling = sampling_of(parts)
    writer = Writer(
        engines=engines_of(parts, sampling, folder.path, say), tokenizer=parts.tokenizer, judge=judge, world=world,
        sampling=sampling, chunk_rows=rollout.max_rows + rollout.waiting_rows, seed=recipe.training.seed,
        turns=turns_of(parts),
    )  # fmt: skip
    held_out = {name: s for name, s in parts.stores.items() if name != "train"}
    shape = tuple(piece(p) for p in recipe.reward.shape)
    return Online(
        method=recipe.method, writer=writer,
        harvester=Harvester(parts.reader, online_roles(parts), judge, shape, rollout),
        batch_size=recipe.training.batch_size, prompts=prompts,
        splits={n: [prompt_of(s, i, i) for i in range(parts.held_out(n))] for n, s in held_out.items()},
        place_of={name: s.place for name, s in parts.stores.items()},
        log=RolloutLog(
            folder.path / "rollouts", record=rollout.record, main=world.main,
            replay=Path(rollout.replay) if rollout.replay else None,
        ),
        num_shown=recipe.logging.num_completions, num_steps=count_steps(recipe, len(store)),
    )  # fmt: skip


def engines_of(parts: Parts, sampling: Sampling, folder: Path, say: Callable[[str], Any]) -> Engines:
    rollout = parts.recipe.rollout
    if rollout.engine == "vllm":
        return server_engines(parts, sampling, folder)
    refill = rollout.waiting_rows > 0
    return LocalEngines(parts.trainee.module, parts.tokenizer, rollout.max_rows, parts.reader.world, refill, say=say)


def turns_of(parts: Parts) -> Turns | None:
    rollout, tokenizer = parts.recipe.rollout, parts.tokenizer
    if not rollout.environment:
        return None
    encode = functools.partial(tokenizer.encode, add_special_tokens=False)
    decode = functools.partial(text_of, tokenizer)
    return Turns(rollout.environment, find_environment(rollout.environment), encode, decode, rollout.max_turns)


def prompt_of(store: Store, row: int, number: int) -> Prompt:
    return Prompt(row=row, number=number, tokens=store[row].members[0].prompt, columns=store.extras(row))


def sampling_of(parts: Parts) -> Sampling:
    rollout, model = parts.recipe.rollout, parts.reader.world.unwrap(parts.trainee.module).model
    ends = model.generation_config.eos_token_id
    ends = [ends] if isinstance(ends, int) else list(ends or ())
    return Sampling(
        max_completion_length=rollout.max_completion_length,
        stop_token_ids=tuple(dict.fromkeys([parts.tokenizer.eos_token_id, *ends])),
        stop_strings=tuple(rollout.stop_strings), temperature=rollout.temperature, top_k=rollout.top_k,
        top_p=rollout.top_p, min_p=rollout.min_p,
    )  # fmt: skip


def check_room(parts: Parts) -> None:
    """UserError where a prompt leaves no room for its completion in the model's context."""
    model, rollout = parts.reader.world.unwrap(parts.trainee.module).model, parts.recipe.rollout
    context = getattr(unwrapped(model).config.get_text_config(), "max_position_embeddings", None)
    for name, store in parts.stores.items():
        longest = int(np.max(store.prompt_lengths, initial=0))
        if context and longest + rollout.max_completion_length > context:
            row = int(np.argmax(store.prompt_lengths))
            room = context - rollout.max_completion_length
            raise UserError(
                f"data.{name}: a prompt of {longest} tokens ({store.place(row)}) and rollout.max_completion_length "
                f"{rollout.max_completion_length} are more than the model's context of {context}; "
                + (f"set data.max_length={room} or less, or a" if room > 0 else "set a")
                + " smaller rollout.max_completion_length"
            )


def online_roles(parts: Parts) -> dict[str, Role]:
    """`old` where the step's own log-probabilities will not do, `ref` where it is weighed or the recipe names it."""
    recipe, rollout = parts.recipe, parts.recipe.rollout
    needs = parts.reader.needs
    wanted, made = needs.roles(), dict[str, Role]()
    several = rollout.num_iterations > 1 or rollout.num_prompts not in (0, recipe.training.batch_size)
    more = any(columns != ("logps",) for columns in needs.of_role("old").values())
    if "old" in wanted and (several or more or weighs(recipe.method, "old") or rollout.correction != "none"):
        made["old"] = ModelRole(parts.trainee.columns())
    if "ref" in wanted and (weighs(recipe.method, "ref") or recipe.model.reference != "auto"):
        made["ref"] = ModelRole(parts.reference())
    return made

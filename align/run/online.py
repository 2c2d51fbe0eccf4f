"""The policy's own completions as the source of a run's experience."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from align.recipe.steps import count_steps, steps_of_experience
from align.rewards.shape import piece
from align.rewards.verdicts import make_reward_functions
from align.rollout.engine import Sampling
from align.rollout.log import RolloutLog
from align.rollout.policy_engine import Engines, LocalEngines, text_of
from align.rollout.steps import find_segmenter, token_starts
from align.rollout.stop_strings import UNFINISHED
from align.rollout.turns import Turns, find_environment
from align.rollout.writer import Writer
from align.run.parts import Parts, hint_column
from align.run.server import server_engines
from align.runfolder.folder import RunFolder
from align.scoring.experience import ModelRole, Role
from align.scoring.role_table import POLICY, REFERENCE, held_against, idle, loaded, weighs
from align.sources.audit import Auditor
from align.sources.harvest import Harvester
from align.sources.held_out import Rivals
from align.sources.online import Online
from align.sources.rounds import ROUNDS, RoundFiles
from align.sources.rows import Prompts, prompts_of


def online_source(parts: Parts, folder: RunFolder, say: Callable[[str], Any]) -> Online:
    recipe, store = parts.recipe, parts.splits.train
    rollout, world = recipe.rollout, parts.batching.world
    reward_functions = make_reward_functions(recipe.reward)
    sampling = sampling_of(parts)
    hinted = parts.batching.needs.batch.hinted
    hints = hint_column(recipe, parts.splits, parts.tokenizer, parts.context) if hinted else None
    roles, on_demand = online_roles(parts)
    writer = Writer(
        engines=engines_of(parts, roles, folder.path, say), tokenizer=parts.texts, reward_functions=reward_functions,
        world=world,
        sampling=sampling, chunk_rows=rollout.max_rows + rollout.waiting_rows, seed=recipe.training.seed,
        turns=turns_of(parts), steps=steps_of(parts), hints=hints,
    )  # fmt: skip
    harvester = Harvester(
        parts.batching, roles, reward_functions, tuple(piece(p) for p in recipe.reward.shape), rollout, on_demand
    )
    held_out = {name: s for name, s in parts.stores.items() if name != "train"}
    rounds = RoundFiles(folder.path / ROUNDS, writer, steps_of_experience(recipe)) if recipe.method.rounds else None
    rival = held_against(type(recipe.method), rollout.engine)
    return Online(
        method=recipe.method, writer=writer,
        harvester=harvester,
        audit=Auditor(rollout.audit, writer, harvester, folder.path / "values") if rollout.audit else None,
        batch_size=recipe.training.batch_size,
        prompts=Prompts(store=store, mixture=parts.splits.mixture(recipe.training.seed)),
        splits={n: prompts_of(s, [*range(count := parts.held_out(n))], range(count)) for n, s in held_out.items()},
        place_of={name: s.place for name, s in parts.stores.items()},
        log=RolloutLog(
            folder.path / "rollouts", record=rollout.record, main=world.main, by=parts.digest, say=say,
            replay=Path(rollout.replay) if rollout.replay else None,
        ),
        num_shown=recipe.logging.num_completions, num_steps=count_steps(recipe, len(store)), rounds=rounds,
        rivals=Rivals(rival) if rival else None,
    )  # fmt: skip


def engines_of(parts: Parts, roles: Mapping[str, Role], folder: Path, say: Callable[[str], Any]) -> Engines:
    rollout = parts.recipe.rollout
    if rollout.engine == "vllm":
        return server_engines(parts, sampling_of(parts), folder, say)
    refill, world = rollout.waiting_rows > 0, parts.batching.world
    reference = roles.get(REFERENCE)
    others = dict(parts.copies) | ({REFERENCE: reference.model} if isinstance(reference, ModelRole) else {})
    return LocalEngines(parts.trainee.module, parts.texts, rollout.max_rows, world, refill, say=say, others=others)


def turns_of(parts: Parts) -> Turns | None:
    rollout, tokenizer = parts.recipe.rollout, parts.tokenizer
    if not rollout.environment:
        return None
    encode = functools.partial(tokenizer.encode, add_special_tokens=False)
    decode = functools.partial(text_of, parts.texts)
    return Turns(rollout.environment, find_environment(rollout.environment), encode, decode, rollout.max_turns)


def steps_of(parts: Parts) -> Callable[[Sequence[int]], list[int]] | None:
    """Which tokens begin a step, where that is asked."""
    rollout = parts.recipe.rollout
    if not parts.batching.needs.batch.stepwise and not rollout.audit:
        return None
    segment, texts = find_segmenter(rollout.steps), parts.texts

    def starts(tokens: Sequence[int]) -> list[int]:
        def characters(n: int) -> int:
            return len(text_of(texts, tokens[:n]).rstrip(UNFINISHED))

        return token_starts(segment(text_of(texts, tokens)), characters, len(tokens))

    return starts


def sampling_of(parts: Parts) -> Sampling:
    rollout = parts.recipe.rollout
    return Sampling(
        max_completion_length=rollout.max_completion_length,
        stop_token_ids=parts.stops,
        stop_strings=tuple(rollout.stop_strings), temperature=rollout.temperature, top_k=rollout.top_k,
        top_p=rollout.top_p, min_p=rollout.min_p,
    )  # fmt: skip


def online_roles(parts: Parts) -> tuple[dict[str, Role], dict[str, Role]]:
    """Roles that every experience asks, and those that it asks where a hook of the method looks at their columns:
    `old` is among these where the step's own log-probabilities will do."""
    recipe, rollout, needs = parts.recipe, parts.recipe.rollout, parts.batching.needs
    made: dict[str, Role] = {}
    several = rollout.num_iterations > 1 or rollout.num_prompts not in (0, recipe.training.batch_size)
    more = any(columns != ("logps",) for columns in needs.of_role(POLICY).values())
    always = several or more or weighs(recipe.method, POLICY) or rollout.correction != "none"
    own = {POLICY: ModelRole(parts.team.columns)} if POLICY in needs.roles() else {}
    if always:
        made |= own
    made |= {role: ModelRole(module) for role, module in parts.copies.items() if role in needs.roles()}
    made |= {role: ModelRole(parts.frozen_model(role)) for role in loaded(recipe.method, recipe.model)}
    return made, {} if always or idle(recipe.method, POLICY) else {**own}

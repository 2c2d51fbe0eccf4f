"""The policy's own completions as the source of a run's experience."""

from __future__ import annotations

import functools
import heapq
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from align.assembly_parts import Parts
from align.assembly_server import server_engines
from align.data.chat import Writer as Texts
from align.data.hints import COLUMN, hints_of
from align.data.special import Names
from align.data.store import Store
from align.data.tokens import Encoder
from align.errors import Mistakes, RunError, UserError, did_you_mean
from align.methods.base import weighs
from align.recipe_steps import count_steps
from align.rewards.columns import Finding, misfit, misfits
from align.rewards.judge import Judge, make_judge
from align.rewards.shape import piece
from align.rollout.engine import Sampling
from align.rollout.steps import find_segmenter, token_starts
from align.rollout.stop_strings import UNFINISHED
from align.training.audit import Auditor
from align.training.dialogue import Turns, find_environment
from align.training.engines import Engines, LocalEngines, text_of
from align.training.experience import ModelRole, Role
from align.training.harvest import Harvester
from align.training.hints import HintColumn
from align.training.online import Online
from align.training.rollout_log import RolloutLog
from align.training.runfolder import RunFolder
from align.training.writing import Prompt, Writer

LONGEST = 16  # rows whose hints are tokenized before training, to see that they fit


def online_source(parts: Parts, folder: RunFolder, say: Callable[[str], Any]) -> Online:
    recipe, store = parts.recipe, parts.splits.train
    rollout, world = recipe.rollout, parts.reader.world
    check_room(parts)
    judge = make_judge(recipe.reward)
    check_columns(parts, judge)
    known = ["reward", "completion_length", "truncated", *(f"rewards/{name}" for name in judge.functions)]
    if (name := recipe.training.metric_for_best_model) not in known:
        there = f"where the policy writes there are {', '.join(known)}"
        raise UserError(f"training.metric_for_best_model: no such metric: {name}; {there}.{did_you_mean(name, known)}")
    mixture = parts.splits.mixture(recipe.training.seed)

    def prompts(start: int, stop: int) -> list[Prompt]:
        return [prompt_of(store, int(i), start + n) for n, i in enumerate(mixture.rows(start, stop))]

    sampling = sampling_of(parts)
    writer = Writer(
        engines=engines_of(parts, sampling, folder.path, say), tokenizer=parts.texts, judge=judge, world=world,
        sampling=sampling, chunk_rows=rollout.max_rows + rollout.waiting_rows, seed=recipe.training.seed,
        turns=turns_of(parts), steps=steps_of(parts), hints=hint_column(parts),
    )  # fmt: skip
    harvester = Harvester(
        parts.reader, online_roles(parts), judge, tuple(piece(p) for p in recipe.reward.shape), rollout
    )
    held_out = {name: s for name, s in parts.stores.items() if name != "train"}
    return Online(
        method=recipe.method, writer=writer,
        harvester=harvester,
        audit=Auditor(rollout.audit, writer, harvester, folder.path / "values") if rollout.audit else None,
        batch_size=recipe.training.batch_size, prompts=prompts,
        splits={n: [prompt_of(s, i, i) for i in range(parts.held_out(n))] for n, s in held_out.items()},
        place_of={name: s.place for name, s in parts.stores.items()},
        log=RolloutLog(
            folder.path / "rollouts", record=rollout.record, main=world.main, by=parts.digest, say=say,
            replay=Path(rollout.replay) if rollout.replay else None,
        ),
        num_shown=recipe.logging.num_completions, num_steps=count_steps(recipe, len(store)),
    )  # fmt: skip


def check_columns(parts: Parts, judge: Judge) -> None:
    """Mistakes where a reward function asks for columns that the rows of a split do not have."""
    findings: dict[str, Finding] = {n: functools.partial(misfit, f) for n, f in judge.functions.items()}
    found: list[str] = []
    for split, store in parts.stores.items():
        wrong = misfits(findings, (store.extras(row) for row in range(len(store))), f"data.{split}")
        found += [f"reward {name}: {text}" for name, text in wrong.items()]
    if found:
        raise Mistakes(found)


def engines_of(parts: Parts, sampling: Sampling, folder: Path, say: Callable[[str], Any]) -> Engines:
    rollout = parts.recipe.rollout
    if rollout.engine == "vllm":
        return server_engines(parts, sampling, folder)
    refill = rollout.waiting_rows > 0
    return LocalEngines(parts.trainee.module, parts.texts, rollout.max_rows, parts.reader.world, refill, say=say)


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
    if "states" not in parts.reader.needs.prepared and not rollout.audit:
        return None
    segment, texts = find_segmenter(rollout.steps), parts.texts

    def starts(tokens: Sequence[int]) -> list[int]:
        def characters(n: int) -> int:
            return len(text_of(texts, tokens[:n]).rstrip(UNFINISHED))

        return token_starts(segment(text_of(texts, tokens)), characters, len(tokens))

    return starts


def hint_column(parts: Parts) -> HintColumn | None:
    """Where the method tells hints. UserError where the data have none, or some that cannot be told."""
    if not parts.reader.needs.hints:
        return None
    store, lengths = parts.splits.train, dict[int, int]()
    for row in range(len(store)):
        try:
            texts = hints_of(columns := store.extras(row))
        except ValueError as error:
            raise UserError(f"data.train: {store.place(row)}: {error}") from None
        if texts:
            lengths[row] = len(str(columns["prompt"])) + max(map(len, texts))
    if not lengths:
        raise UserError(
            f"data.train: no row has a column {COLUMN}, which {parts.recipe.method.name} tells where completions fail: "
            f"a list of texts, from the least hint to the most. There are {', '.join(store.extras(0))}"
        )
    room = parts.context - parts.recipe.rollout.max_completion_length
    template, names = parts.splits.chat_template, Names(parts.tokenizer, parts.data.special_tokens)
    texts = Texts(parts.tokenizer, template, names=names)
    made = HintColumn(texts, Encoder(parts.tokenizer, template), store.marked, room, store.place)
    for row in heapq.nlargest(LONGEST, lengths, key=lambda row: lengths[row]):
        prompt = prompt_of(store, row, 0)
        try:
            for hint in range(made.count(prompt)):
                made.told(prompt, hint + 1)
        except RunError as error:
            raise UserError(str(error)) from None
    return made


def prompt_of(store: Store, row: int, number: int) -> Prompt:
    return Prompt(row=row, number=number, tokens=store[row].members[0].prompt, columns=store.extras(row))


def sampling_of(parts: Parts) -> Sampling:
    rollout = parts.recipe.rollout
    return Sampling(
        max_completion_length=rollout.max_completion_length,
        stop_token_ids=parts.stops,
        stop_strings=tuple(rollout.stop_strings), temperature=rollout.temperature, top_k=rollout.top_k,
        top_p=rollout.top_p, min_p=rollout.min_p,
    )  # fmt: skip


def check_room(parts: Parts) -> None:
    """UserError where a prompt leaves no room for its completion in the model's context."""
    rollout, context = parts.recipe.rollout, parts.context
    for name, store in parts.stores.items():
        longest = int(np.max(store.prompt_lengths, initial=0))
        if longest + rollout.max_completion_length > context:
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

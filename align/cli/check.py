"""`align check`: the resolved recipe, the arithmetic of its batches and steps, and what it will ask of the memory.

No weights are loaded; what memory goes to is `align.plan`'s arithmetic.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from math import ceil
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from align.cli import plan
from align.errors import Findings
from align.methods.base import OnlineMethod
from align.monitors.trackers import check_trackers
from align.plan.peak import memory
from align.plan.sharding import SHARDINGS
from align.plan.work import Asked, Work, work_of
from align.recipe.load import Recipe
from align.recipe.look_at_data import first_told, train_rows
from align.recipe.look_at_rows import look_at_rows
from align.recipe.online import is_online
from align.recipe.sharding import mistakes as wrong_under
from align.recipe.steps import count_steps, steps_of_experience
from align.runfolder.folder import RunFolder
from align.system.machine import unwritable
from align.training.settings import CPU_MICRO_BATCH, MICRO_BATCH, TrainingSection, in_steps

EXAMPLE_RANKS, EXAMPLES = 8, ("ddp", "zero2", "zero3")
UNREAD = (
    "rows beyond those above, lengths in tokens, the chat template, what is held out, the model behind its config. "
    "`align check --all` prepares the data as the run will, and makes the model without its weights"
)
UNSEEN = "what takes weights, a GPU, several processes or a live server; the run begins with it"
AS_IT_IS: dict[str, Any] = {"markup": False, "highlight": False, "soft_wrap": True}


def say(recipe: Recipe, console: Console, *, whole: bool = False, sharding: str = "") -> None:
    """Prints all of it. `whole` prepares the data and makes the models empty, as a run does, which takes its time;
    `sharding` is that of the run, where it is known.

    Mistakes with what a run would be refused for.
    """
    mistakes = [*check_trackers(recipe.logging.report_to), *wrong_under(recipe, sharding)]
    if reason := unwritable(recipe.output_dir):
        mistakes.append(f"training.output_dir: {recipe.output_dir}: cannot be written: {reason}; choose another place")
    looked, told = _looked_at(recipe, mistakes, sharding, whole=whole)
    from rich.syntax import Syntax  # a quarter of a second

    text = recipe.to_yaml().rstrip()
    console.print(Syntax(text, "yaml", background_color="default") if console.is_terminal else text, **AS_IT_IS)
    for note in (*recipe.notes, *told):
        console.print(f"note: {note}", **AS_IT_IS)
    if RunFolder(recipe.output_dir).used:
        console.print(f"note: {recipe.output_dir} holds a run already, which goes on by --resume alone", **AS_IT_IS)
    work = work_of(recipe, Asked(gpu=torch.cuda.is_available()))
    for line in (*(f"data: {line}" for line in looked), *batch_lines(recipe), *memory_lines(work)):
        console.print(line, **AS_IT_IS)
    if work is not None:
        console.print(memory_table(work, recipe, sharding))
    console.print(f"not looked at: {UNSEEN if whole else UNREAD}", **AS_IT_IS)
    console.print(f"{recipe.name}: no mistakes found", **AS_IT_IS)


def _looked_at(recipe: Recipe, mistakes: list[str], sharding: str, *, whole: bool) -> tuple[list[str], list[str]]:
    """Lines about the data, and notes."""
    if whole:
        from align.cli.check_all import look_at_all  # imports for seconds

        return look_at_all(recipe, mistakes, sharding)
    found = Findings(mistakes)
    looked: list[str] = []
    with found:
        looked += look_at_rows(recipe.data, recipe.method.needs())
    found.tell()
    return looked, list(first_told(recipe.data, recipe.method.needs()))


# ---- arithmetic -----------------------------------------------------------------------------------------------------


def batch_lines(recipe: Recipe) -> Iterator[str]:
    if is_online(type(recipe.method)):
        yield from online_lines(recipe)
        return
    t, needs = recipe.training, recipe.method.needs()
    yield (
        f"batch: {t.batch_size} groups of {needs.batch.kind} a step over all ranks, {(n := len(needs.members))} "
        f"sequence{'s' if n > 1 else ''} each; micro-batches of {t.max_tokens or MICRO_BATCH} tokens a rank"
        + ("" if t.max_tokens else f" ({CPU_MICRO_BATCH} on a CPU)")
    )
    if (n := t.num_minibatches) > 1:
        yield f"experience: {n * t.batch_size} groups, learned from in {n} steps of {t.batch_size}"
    if (rows := train_rows(recipe.data)) is None:
        yield f"steps: {t.max_steps}" if t.max_steps else "steps: known when the data set has been fetched"
        return
    rows *= 2 if needs.batch.kind == "unpaired" and _holds_pairs(recipe) else 1  # a pair is taken apart into two rows
    steps, some = count_steps(recipe, rows), "(fewer where some are dropped)"
    yield f"steps: {steps}, {steps * t.batch_size / rows:.2f} epochs of about {rows} rows {some}"
    yield _course(t, steps)


def online_lines(recipe: Recipe) -> Iterator[str]:
    t, r = recipe.training, recipe.rollout
    prompts = r.num_prompts or t.batch_size
    per_experience = steps_of_experience(recipe)
    waiting = f" of {r.max_rows + r.waiting_rows}" if r.waiting_rows else ""
    yield (
        f"experience: {prompts} prompts x {r.num_generations} completions of up to {r.max_completion_length} tokens, "
        f"written by {r.engine} engine, {r.max_rows} at once{waiting} on each rank; learned from in {per_experience} "
        f"step{'s' if per_experience > 1 else ''} of {t.batch_size} prompts"
    )
    if (rows := train_rows(recipe.data)) is None:
        yield f"steps: {t.max_steps}" if t.max_steps else "steps: known when the data set has been fetched"
        return
    steps = count_steps(recipe, rows)
    written = ceil(steps / per_experience) * prompts
    total = written * r.num_generations
    yield f"steps: {steps}; completions written: {total}, of {written} prompts ({rows} in the data)"
    yield from _not_counted(recipe)
    if recipe.method.rounds:
        yield f"rounds: {steps // per_experience} of {per_experience} steps, each with an evaluation at its end"
    yield _course(t, steps)


def _not_counted(recipe: Recipe) -> Iterator[str]:
    """What is written of an experience beside the completions of its prompts, whose number nobody knows before."""
    method, rollout = recipe.method, recipe.rollout
    if isinstance(method, OnlineMethod) and method.resamples():
        yield f"  and those that {method.name} asks for in view of these (the metric `auxiliary` tells how many)"
    if rollout.max_refills:
        yield f"  and up to {rollout.max_refills} times as many, where too few prompts are left to learn from"
    if rollout.window:
        yield f"  (or parts of completions: {rollout.window} tokens at most are written of one in an experience)"
    if rollout.audit:
        yield "  and those of the audits, which are never learned from"


def _course(training: TrainingSection, steps: int) -> str:
    every = [in_steps(value, steps) for value in (training.eval_steps, training.save_steps)]
    times = [f"{ceil(steps / n)}, every {n} steps and at the end" if n else "1, at the end" for n in every]
    return f"evaluations: {times[0]}; checkpoints: {times[1]}"


def _holds_pairs(recipe: Recipe) -> bool:
    return "chosen" in (mapped := recipe.data.columns) or not ({"label", "completion"} & set(mapped))


# ---- memory ---------------------------------------------------------------------------------------------------------


def memory_lines(work: Work | None) -> Iterator[str]:
    if work is None:
        yield "memory: not estimated; the model is not here yet"
        return
    policy = work.policy
    share = f", {policy.learned:,} of them trained" if policy.adapter else ""
    shape = policy.shape
    yield f"model: {policy.weights + policy.adapter:,} weights{share}; {shape.layers} layers of width {shape.hidden}"
    yield f"vocabulary: {policy.shape.vocabulary:,} tokens"


def memory_table(work: Work, recipe: Recipe, sharding: str = "") -> Table:
    """Of one process, and of as many as one machine often has, under what the recipe may have."""
    names = EXAMPLES if sharding in ("", *EXAMPLES) else (*EXAMPLES, sharding)
    names = [name for name in names if not list(wrong_under(recipe, name))]
    many = dataclasses.replace(work, ranks=EXAMPLE_RANKS)
    columns = {"1 rank": memory(dataclasses.replace(work, ranks=1), SHARDINGS["ddp"])}
    columns |= {f"{name}, {EXAMPLE_RANKS} ranks": memory(many, SHARDINGS[name]) for name in names}
    title = "one rank at its most, beside some 400 MB of Python and its libraries; align plan says more"
    return plan.table(columns, title)

"""How many rows make a step: per device x accumulation x processes, in completions where TRL counts those."""

from __future__ import annotations

from align.errors import UserError
from align.translate.draft import Draft

BATCH = ("per_device_train_batch_size", "gradient_accumulation_steps")


def per_step(draft: Draft) -> int:
    return int(draft.get(BATCH[0])) * int(draft.get(BATCH[1]) or 1) * draft.launch.world


def batch(draft: Draft) -> None:
    """Of rows that are there before: TRL's two names are taken as they are, and multiplied by who launches."""
    if draft.launch.processes:
        draft.put("training.batch_size", per_step(draft), *BATCH, note=f"on {draft.launch.processes} processes")
        return
    draft.put("training.per_device_train_batch_size", int(draft.get(BATCH[0])), BATCH[0])
    draft.put("training.gradient_accumulation_steps", int(draft.get(BATCH[1]) or 1), BATCH[1])


def prompts(draft: Draft) -> None:
    """Where the policy writes: TRL counts completions, here prompts are counted."""
    completions, group = per_step(draft), int(draft.get("num_generations"))
    if completions % group:
        raise UserError(
            f"a step has {completions} completions (per_device_train_batch_size x gradient_accumulation_steps x "
            f"{draft.launch.world} processes), which num_generations {group} does not divide; say how many processes "
            "there are with --processes"
        )
    size = completions // group
    known = "" if draft.launch.processes else ", on one process: --processes says another number"
    draft.put("training.batch_size", size, *BATCH, note=f"{completions} completions, {group} of each prompt{known}")
    draft.put("rollout.num_generations", group, "num_generations")
    written = draft.get("generation_batch_size")
    if written is None and (steps := draft.get("steps_per_generation")) is not None:
        written = int(draft.get(BATCH[0])) * int(steps) * draft.launch.world
    if written is None or int(written) == completions:
        draft.already("generation_batch_size", "an experience lasts one step")
        draft.already("steps_per_generation", "an experience lasts one step")
    elif int(written) % completions:
        draft.refuse("steps_per_generation", f"{written} completions are written, of which a step has {completions}")
    else:
        of = ("generation_batch_size", "steps_per_generation")
        draft.put("rollout.num_prompts", int(written) // group, *of, note=f"{written} completions at once")
    draft.put("rollout.num_iterations", int(draft.get("num_iterations", 1)), "num_iterations")

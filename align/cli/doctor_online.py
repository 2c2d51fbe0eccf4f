"""What `align doctor` looks at where the policy writes: the first completions, their rewards, sampler against
trainer.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from torch import Tensor

from align.batches import Group
from align.rollout.writer import Trajectory
from align.run.assemble import Setup
from align.scoring.experience import ModelRole
from align.scoring.rounding import distance, is_exact, limit
from align.sources.harvest import Harvest
from align.sources.online import Online

PROMPTS = 4  # that are answered
NO_CURE = "nothing corrects this method for it"
SHOWN = 200  # characters of a text
GAP = 1e-3  # of log-probabilities, whatever rounding allows: the two are computed in different ways


def rehearse(setup: Setup, console: Console) -> tuple[list[str], Harvest]:
    """Writes and judges a few completions; says what was found, and returns what must be mended."""
    source = setup.source
    assert isinstance(source, Online)
    written, harvest, seconds = source.rehearse(PROMPTS)
    console.print("\nthe first prompt's completions:", markup=False)
    for t in (t for t in written if t.number == written[0].number):
        _show(t, setup, console)
    tokens = sum(len(t.tokens) for t in written)
    rate = tokens / max(seconds.generate, 1e-9)
    console.print(
        f"\n{len(written)} completions, {tokens} tokens: generation {rate:.0f} tokens/s, "
        f"rewards {1000 * seconds.reward / len(written):.1f} ms a completion",
        highlight=False,
    )
    return _rewards(written, harvest, console) + _gap(setup, harvest, console), harvest


def _show(t: Trajectory, setup: Setup, console: Console) -> None:
    prompt = setup.tokenizer.decode(t.prompt, skip_special_tokens=True)
    verdicts = ", ".join(f"{n} {'-' if v is None else format(v, '.3g')}" for n, v in t.rewards.items())
    failed = "".join(f"; {name}: {reason}" for name, reason in t.failed.items())
    console.print(f"  [{verdicts}; {t.stop}, {len(t.tokens)} tokens{failed}]", markup=False, highlight=False)
    console.print(f"    ...{prompt[-60:]!r} {t.text[:SHOWN]!r}", markup=False, highlight=False)


def _rewards(written: list[Trajectory], harvest: Harvest, console: Console) -> list[str]:
    problems: list[str] = []
    rewards = harvest.whole.batch.rewards
    low, high = rewards.min().item(), rewards.max().item()
    console.print(f"rewards after shaping: from {low:.3g} to {high:.3g}, mean {rewards.mean().item():.3g}")
    if low == high and harvest.learns_from_rewards:
        problems.append(f"every completion earns {low:.3g}: nothing can be learned from equal rewards")
    if failed := [t for t in written if t.failed]:
        problems.append(f"{len(failed)} of {len(written)} completions could not be judged")
    if (cut := sum(not t.finished for t in written)) > len(written) / 2:
        console.print(f"note: {cut} of {len(written)} completions are cut at rollout.max_completion_length")
    return problems


def _gap(setup: Setup, harvest: Harvest, console: Console) -> list[str]:
    """The engine's log-probabilities against the trainer's, on the same weights."""
    batching, whole = setup.batching, harvest.whole
    (member,) = batching.needs.members
    mask = whole.batch.completion.mask

    def logps(groups: Sequence[Group]) -> Tensor:
        return ModelRole(setup.trainee.module).stored(batching, {member: ("logps",)}, groups)[member, "logps"]

    precision, copies = setup.policy.computes_in, [*whole.groups, *whole.groups]
    gap = distance(logps(whole.groups), whole.batch.completion.sampler_logps, mask, precision)
    rounding = limit(setup.trainee.module, precision, lambda: logps(copies).unflatten(0, (2, -1)), mask)
    most = max(GAP, rounding)
    of = "at most" if is_exact(precision) else "in a completion's median"
    console.print(f"sampler and trainer: log-probabilities differ by {gap:.1e} {of} (limit {most:.1g})")
    if gap > most:
        levels = getattr(setup.recipe.method, "correction_levels", ())
        cure = f"set rollout.correction: truncate (correction_level: {' or '.join(levels)})" if levels else NO_CURE
        return [f"sampler and trainer differ by {gap:.2g} in a log-probability; {cure}"]
    return []

"""What the numbers of a policy that writes say against a run, in words."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from align.monitors.thresholds import COLLAPSED, GAP, HALF, RATIO, TENTH
from align.report.folder import Run
from align.report.headline import ends
from align.report.text import amount, short


def online_findings(run: Run) -> list[str]:
    """Sentences; nothing for a run whose policy wrote nothing."""
    if not run.curve("reward"):
        return []
    checks = (_equal, _truncated, _not_judged, _negative_kl, _entropy, _ratio, _gap, _failed)
    return [sentence for check in checks for sentence in check(run)]


def _end(run: Run, key: str) -> float | None:
    line = run.curve(key)
    return ends(line)[1].value if line else None


def _equal(run: Run) -> list[str]:
    share = _end(run, "equal_groups")
    if share is None or share <= HALF:
        return []
    return [
        f"In the last tenth of the run {amount(share, share=True)} of the prompts had completions that all earned the "
        "same: comparisons within a prompt learn nothing from them."
    ]


def _truncated(run: Run) -> list[str]:
    share = _end(run, "truncated")
    if share is None or share <= HALF:
        return []
    return [
        f"{amount(share, share=True)} of the last completions were cut at rollout.max_completion_length; their rewards "
        "are those of unfinished texts. Raise it, or add missing_eos to reward.shape."
    ]


def _not_judged(run: Run) -> list[str]:
    share = _end(run, "not_judged")
    if share is None or share <= TENTH:
        return []
    return [
        f"{amount(share, share=True)} of the last completions were judged by no reward function, and not learned from."
    ]


def _negative_kl(run: Run) -> list[str]:
    line = [y for _, y in run.curve("kl")]
    late = line[len(line) // 2 :]
    if len(late) < 4 or statistics.fmean(late) >= 0 or sum(y < 0 for y in late) <= len(late) / 2:
        return []
    mean = short(statistics.fmean(late))
    return [
        f"The KL divergence from the reference was negative for most of the second half, {mean} on average: a true one "
        "cannot be. Sampling (top_k, top_p) and scoring are of different distributions."
    ]


def _entropy(run: Run) -> list[str]:
    line = run.curve("entropy")
    if len(line) < 10:
        return []
    first, last = ends(line)
    if last.value >= COLLAPSED * first.value:
        return []
    change = f"from {short(first.value)} to {short(last.value)} nats a token"
    return [f"The entropy collapsed {change}: the policy repeats itself."]


def _ratio(run: Run) -> list[str]:
    """On the first step of an experience the policy still is the one that wrote."""
    begins = {step for step, _ in run.curve("reward")}
    odd = [(step, y) for step, y in run.curve("ratio") if step in begins and abs(y - 1) > RATIO]
    if not odd:
        return []
    step, value = max(odd, key=lambda p: abs(p[1] - 1))
    return [
        f"At the first step of {len(odd)} experiences pi / pi_old was not 1 ({short(value)} at step {step:,.0f}): "
        "log-probabilities are not reproduced (dropout, temperature, precision)."
    ]


def _gap(run: Run) -> list[str]:
    gaps: Sequence[float] = [y for _, y in run.curve("sampler_gap")]
    if not gaps or statistics.median(gaps) <= GAP:
        return []
    return [
        f"The engine's log-probabilities were {short(statistics.median(gaps))} nats a token away from the trainer's; "
        "rollout.correction: truncate corrects most methods for it."
    ]


def _failed(run: Run) -> list[str]:
    shares = [y for _, y in run.curve("failed_rewards")]
    if not any(shares):
        return []
    return [f"{amount(statistics.fmean(shares), share=True)} of the completions could not be judged by some reward."]

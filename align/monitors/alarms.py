"""What goes wrong while a policy writes, told while there is time to stop: each kind once, in words."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from align.monitors.thresholds import COLLAPSED, GAP, HALF, RATIO, TENTH

LONG = 5  # experiences in a row
Row = Mapping[str, float | int]


class Alarms:
    """`look(row)` after every step; what it knows of earlier steps begins anew with the process."""

    def __init__(self) -> None:
        self._told: set[str] = set()
        self._negative = 0  # experiences in a row with a KL below 0
        self._entropy: float | None = None  # of the first step

    def look(self, row: Row) -> list[str]:
        """Sentences that have not been told yet; none of a step that begins no experience."""
        if "reward" not in row:
            return []
        self._negative = self._negative + 1 if row.get("kl", 0.0) < 0 else 0
        self._entropy = row.get("entropy") if self._entropy is None else self._entropy
        found = dict(self._found(row))
        new = [sentence for kind, sentence in found.items() if kind not in self._told]
        self._told |= found.keys()
        return new

    def _found(self, row: Row) -> Iterator[tuple[str, str]]:
        checks: list[Callable[[Row], tuple[str, str] | None]] = [
            _equal, _truncated, _not_judged, self._negative_kl, self._collapsed, _ratio, _gap, _whole,
        ]  # fmt: skip
        yield from (found for check in checks if (found := check(row)))

    def _negative_kl(self, row: Row) -> tuple[str, str] | None:
        if self._negative < LONG:
            return None
        return "kl", (
            f"the KL to the reference has been negative for {self._negative} experiences, which a true one cannot be: "
            "sampling (top_k, top_p) and scoring are of different distributions"
        )

    def _collapsed(self, row: Row) -> tuple[str, str] | None:
        entropy = row.get("entropy")
        if not self._entropy or entropy is None or entropy >= COLLAPSED * self._entropy:
            return None
        change = f"from {self._entropy:.3g} to {entropy:.3g} nats a token"
        return "entropy", f"the entropy has collapsed {change}: the policy repeats itself"


def _equal(row: Row) -> tuple[str, str] | None:
    if row.get("equal_groups", 0.0) < 1:
        return None
    return "equal", "all completions of every prompt earned the same: comparisons within a prompt learn nothing"


def _whole(row: Row) -> tuple[str, str] | None:
    if row.get("steps_per_completion", 0.0) != 1:
        return None
    return (
        "steps",
        "every completion is one step: rollout.steps finds nothing to divide, so no step has credit of its own",
    )


def _truncated(row: Row) -> tuple[str, str] | None:
    if (share := row.get("truncated", 0.0)) <= HALF:
        return None
    return "truncated", (
        f"{100 * share:.0f} % of the completions were cut at rollout.max_completion_length, and are judged unfinished; "
        "raise it, or add missing_eos to reward.shape"
    )


def _not_judged(row: Row) -> tuple[str, str] | None:
    if (share := row.get("not_judged", 0.0)) <= TENTH:
        return None
    return "not_judged", (
        f"{100 * share:.0f} % of the completions were judged by no reward function (None, or an error that is marked), "
        "and are not learned from"
    )


def _ratio(row: Row) -> tuple[str, str] | None:
    if abs((ratio := row.get("ratio", 1.0)) - 1) <= RATIO:
        return None
    return "ratio", (
        f"pi / pi_old is {ratio:.3f} before anything was learned from this experience: log-probabilities are not "
        "reproduced (dropout, precision, another engine); rollout.correction: truncate corrects most methods for it"
    )


def _gap(row: Row) -> tuple[str, str] | None:
    """A mean over all tokens, in one experience: single tokens may be further apart in bf16."""
    if (gap := row.get("sampler_gap", 0.0)) <= GAP:
        return None
    return "gap", (
        f"the engine's log-probabilities are {gap:.2g} nats a token away from the trainer's: what is learned from is "
        "not what the policy would write (another precision, older weights, numbers that depend on neighbours); "
        "rollout.correction: truncate corrects most methods for it, and `align doctor` looks for the cause"
    )

"""Whether the numbers of two runs are the same quantity: only then they are subtracted, or drawn on one axis.

A loss of SFT and one of DPO share a name and nothing else; so do the margins of DPO at two betas, what two reward
functions pay, and the entropies at tokens that were given and at those that a policy wrote. `About.within` says which
section of the recipe a metric's meaning hangs on.
"""

from __future__ import annotations

from collections.abc import Sequence

from align.methods.metrics import METHOD, ROLLOUT, about
from align.report.folder import Run

Placed = tuple[int, Run]  # a run, and its place among those that are shown


def alike(key: str, one: Run, other: Run) -> bool:
    """Whether both runs mean the same by this metric."""
    declared = key in one.about or key in other.about  # by the method itself
    section = METHOD if declared else about(key).within
    if not section or one is other:
        return True
    if section == ROLLOUT:
        return bool(one.recipe and other.recipe) and (section in one.recipe) == (section in other.recipe)
    return section in one.recipe and one.recipe[section] == other.recipe.get(section)


def kin(key: str, runs: Sequence[Placed]) -> list[list[Placed]]:
    """Runs that mean the same by this metric, together."""
    groups: list[list[Placed]] = []
    for placed in runs:
        own = next((group for group in groups if alike(key, group[0][1], placed[1])), None)
        if own is None:
            groups.append([placed])
        else:
            own.append(placed)
    return groups

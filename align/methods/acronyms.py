"""Names that several methods go by: asked for one, we name them all and take none."""

from __future__ import annotations

from collections.abc import Mapping

APO = (
    "APO is the acronym of three methods: accelerated preference optimisation (arXiv:2410.06293), `accelerated_po`; "
    "anchored preference optimisation (arXiv:2408.06266, elsewhere apo_zero and apo_down), which is not here; "
    "alpha-divergence preference optimisation (arXiv:2512.22953), which is not here"
)
ACRONYMS: Mapping[str, str] = {name: f"{name}: {APO}" for name in ("apo", "apo_zero", "apo_down")}

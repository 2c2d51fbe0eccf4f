"""Every method whose policy writes learns a known world, through the real source of experience."""

from __future__ import annotations

from pathlib import Path

import pytest
from online_rig import online_rig

from align.methods.base import OnlineMethod, find_method, method_names

ONLINE = [name for name in method_names() if issubclass(find_method(name), OnlineMethod)]
STEPS = 40


@pytest.mark.parametrize("name", ONLINE)
def test_every_online_method_learns_the_bandit(name: str, tmp_path: Path):
    """A uniform choice among the arms earns 0.5, the untrained policy less, the best arm always 1."""
    rig = online_rig(find_method(name)(), tmp_path, seed=0)
    assert rig.earned() < 0.4
    assert any(rig.step() and rig.earned() > 0.85 for _ in range(STEPS))

from __future__ import annotations

import method_batches as batches
import pytest

from align.methods.hinge import Hinge


@pytest.mark.parametrize(
    ("h", "loss", "gradient"),
    [(4.0, 0.0, 0.0), (1.0, 0.5, -0.5), (0.0, 1.0, -0.5), (-2.0, 2.0, -0.5)],  # 1 - 0.5 h, cut at 0
)
def test_by_hand(h: float, loss: float, gradient: float) -> None:
    tensors = batches.pairs([[h]], [[0.0]])
    made = batches.objective(Hinge(beta=0.5).loss(batches.build(Hinge.needs(), tensors)))
    made.backward()
    assert made.item() == loss
    assert tensors["chosen.logps"].grad is not None
    assert tensors["rejected.logps"].grad is not None
    assert float(tensors["chosen.logps"].grad) == gradient
    assert float(tensors["rejected.logps"].grad) == -gradient


def test_beta_must_be_positive() -> None:
    with pytest.raises(ValueError, match=r"hinge\.beta"):
        Hinge(beta=0.0)

from __future__ import annotations

import math

import method_batches as batches
import pytest
import torch

from align.methods.dft import DFT
from align.methods.sft import SFT


def test_the_gradient_of_each_token_is_its_probability_times_that_of_sft() -> None:
    sft, dft = (batches.random_tensors(method.needs(), rows=4, width=5) for method in (SFT, DFT))
    batches.objective(SFT().loss(batches.build(SFT.needs(), sft))).backward()
    batches.objective(DFT().loss(batches.build(DFT.needs(), dft))).backward()
    assert sft["completion.logps"].grad is not None
    assert dft["completion.logps"].grad is not None
    probabilities = dft["completion.logps"].detach().exp()
    torch.testing.assert_close(dft["completion.logps"].grad, probabilities * sft["completion.logps"].grad)


def test_by_hand() -> None:
    # Probabilities 1/2 and 1/4: (log 2 / 2 + log 4 / 4) / 2 = (log 2) / 2, while SFT would have (log 2 + log 4) / 2.
    tensors = {
        "completion.logps": torch.tensor([[0.5, 0.25, 0.9]], dtype=torch.float64).log().requires_grad_(),
        "completion.mask": torch.tensor([[True, True, False]]),
        "completion.entropies": torch.ones(1, 3, dtype=torch.float64),
        "completion.hits": torch.tensor([[True, False, False]]),
    }
    loss = DFT().loss(batches.build(DFT.needs(), tensors))
    assert batches.value(loss) == pytest.approx(math.log(2) / 2, rel=1e-12)
    assert batches.mean_of(loss, "likelihood") == pytest.approx(1.5 * math.log(2), rel=1e-12)
    assert batches.mean_of(loss, "token_accuracy") == 0.5

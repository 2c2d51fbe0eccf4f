from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Categorical

from align.functional import logprobs

N, V = 7, 11


@pytest.fixture
def logits() -> Tensor:
    return torch.randn(N, V, dtype=torch.float64, generator=torch.Generator().manual_seed(3)) * 3


@pytest.fixture
def targets() -> Tensor:
    return torch.randint(V, (N,), generator=torch.Generator().manual_seed(4))


@pytest.fixture
def upstream() -> Tensor:
    return torch.randn(2, N, dtype=torch.float64, generator=torch.Generator().manual_seed(5))


def gradient(of: Callable[[Tensor], Tensor], logits: Tensor) -> Tensor:
    leaf = logits.clone().requires_grad_()
    of(leaf).backward()
    assert leaf.grad is not None
    return leaf.grad


def central_differences(of: Callable[[Tensor], Tensor], logits: Tensor, step: float = 1e-5) -> Tensor:
    grad = torch.zeros_like(logits)
    for i in range(logits.numel()):
        shift = torch.zeros_like(logits)
        shift.view(-1)[i] = step
        grad.view(-1)[i] = (of(logits + shift) - of(logits - shift)) / (2 * step)
    return grad


def test_logps_are_the_negative_cross_entropy(logits: Tensor, targets: Tensor, upstream: Tensor) -> None:
    torch.testing.assert_close(logprobs.logps(logits, targets), -F.cross_entropy(logits, targets, reduction="none"))
    ours = gradient(lambda x: (logprobs.logps(x, targets) * upstream[0]).sum(), logits)
    theirs = gradient(lambda x: (-F.cross_entropy(x, targets, reduction="none") * upstream[0]).sum(), logits)
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5])
def test_statistics_are_those_of_a_categorical_distribution(
    logits: Tensor, targets: Tensor, upstream: Tensor, temperature: float
) -> None:
    def theirs(x: Tensor) -> Tensor:
        return (Categorical(logits=x / temperature).log_prob(targets) * upstream[0]).sum()

    def ours(x: Tensor) -> Tensor:
        return (logprobs.statistics(x, targets, temperature).logps * upstream[0]).sum()

    torch.testing.assert_close(ours(logits), theirs(logits))
    torch.testing.assert_close(gradient(ours, logits), gradient(theirs, logits))
    torch.testing.assert_close(gradient(ours, logits), central_differences(ours, logits), rtol=1e-6, atol=1e-8)
    only = logprobs.statistics(logits, targets, temperature)
    torch.testing.assert_close(only.entropies, Categorical(logits=logits / temperature).entropy())
    torch.testing.assert_close(only.entropies, logprobs.entropies(logits, temperature))
    torch.testing.assert_close(only.logps, logprobs.logps(logits, targets, temperature))


def test_entropies_carry_no_gradient(logits: Tensor, targets: Tensor, upstream: Tensor) -> None:
    made = logprobs.statistics(logits.requires_grad_(), targets)
    assert not made.entropies.requires_grad
    assert not made.hits.requires_grad
    assert not logprobs.entropies(logits).requires_grad
    ours = gradient(lambda x: (logprobs.statistics(x, targets).logps * upstream[0]).sum(), logits.detach())
    plain = gradient(lambda x: (logprobs.logps(x, targets) * upstream[0]).sum(), logits.detach())
    torch.testing.assert_close(ours, plain)


def test_hits_are_the_first_of_the_likeliest() -> None:
    logits = torch.tensor([[1.0, 2.0, 2.0], [1.0, 2.0, 2.0], [3.0, 2.0, 2.0]])
    targets = torch.tensor([1, 2, 0])
    assert logprobs.hits(logits, targets).tolist() == [True, False, True]
    assert logprobs.statistics(logits, targets).hits.tolist() == [True, False, True]


def test_uniform_logits_give_log_v(targets: Tensor) -> None:
    made = logprobs.statistics(torch.full((N, V), 7.0, dtype=torch.float64), targets)
    torch.testing.assert_close(made.logps, torch.full((N,), -math.log(V), dtype=torch.float64))
    torch.testing.assert_close(made.entropies, torch.full((N,), math.log(V), dtype=torch.float64))


def test_one_buffer_is_kept_and_becomes_the_gradient(logits: Tensor, targets: Tensor) -> None:
    kept: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    leaf = logits.requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        made = logprobs.logps(leaf, targets)
    large = [tensor for tensor in kept if tensor.numel() >= N * V]
    assert len(large) == 1
    (grad,) = torch.autograd.grad(made.sum(), leaf)
    assert grad.data_ptr() == large[0].data_ptr()


def test_a_second_backward_pass_is_refused(logits: Tensor, targets: Tensor) -> None:
    made = logprobs.logps(logits.requires_grad_(), targets).sum()
    made.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        made.backward()


def test_the_logits_themselves_stay(logits: Tensor, targets: Tensor) -> None:
    before = logits.clone()
    leaf = logits.requires_grad_()
    logprobs.statistics(leaf, targets).logps.sum().backward()
    logprobs.logps(leaf, targets).sum().backward()
    assert torch.equal(leaf.detach(), before)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_is_computed_in_float32(logits: Tensor, targets: Tensor, dtype: torch.dtype) -> None:
    low = logits.to(dtype)
    made = logprobs.statistics(low, targets)
    assert made.logps.dtype == made.entropies.dtype == torch.float32
    torch.testing.assert_close(made.logps, F.log_softmax(low.float(), -1).gather(1, targets[:, None]).squeeze(1))
    grad = gradient(lambda x: logprobs.logps(x, targets).sum(), low)
    exact = gradient(lambda x: logprobs.logps(x, targets).sum(), low.float())
    assert grad.dtype == dtype
    assert torch.equal(grad, exact.to(dtype))


def test_autocast_does_not_lower_the_precision(logits: Tensor, targets: Tensor) -> None:
    single = logits.float()
    plain = logprobs.statistics(single, targets)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = logprobs.statistics(single, targets)
    assert all(torch.equal(a, b) for a, b in zip(plain, cast, strict=True))


def test_a_token_that_cannot_occur_has_no_weight(logits: Tensor, targets: Tensor) -> None:
    forbidden = (targets + 1) % V
    closed = logits.scatter(1, forbidden[:, None], -math.inf)
    distribution = Categorical(probs=closed.softmax(-1))
    made = logprobs.statistics(closed, targets)
    torch.testing.assert_close(made.logps, distribution.log_prob(targets))
    torch.testing.assert_close(made.entropies, distribution.entropy())

    grad = gradient(lambda x: logprobs.statistics(x, targets).logps.sum(), closed)
    assert grad.isfinite().all()
    assert not grad.gather(1, forbidden[:, None]).any()
    assert torch.equal(logprobs.logps(closed, forbidden), torch.full((N,), -math.inf, dtype=torch.float64))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_huge_logits_stay_finite(dtype: torch.dtype) -> None:
    logits = torch.tensor([[1e6, -1e6, 0.0], [-1e30, -1e30, -1e30]], dtype=dtype)
    made = logprobs.statistics(logits, torch.tensor([1, 2]))
    torch.testing.assert_close(made.logps, torch.tensor([-2e6, -math.log(3)], dtype=dtype))
    torch.testing.assert_close(made.entropies, torch.tensor([0.0, math.log(3)], dtype=dtype))


def test_the_size_of_a_block_changes_nothing(logits: Tensor, targets: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = logprobs.statistics(logits, targets)
    monkeypatch.setattr(logprobs, "CACHE_BLOCK", 3 * V)
    blocks = logprobs.statistics(logits, targets)
    assert all(torch.equal(a, b) for a, b in zip(whole, blocks, strict=True))
    torch.testing.assert_close(logprobs.logps(logits, targets), whole.logps, rtol=0, atol=0)


def test_no_tokens_at_all(logits: Tensor, targets: Tensor) -> None:
    leaf = logits[:0].clone().requires_grad_()
    logprobs.logps(leaf, targets[:0]).sum().backward()
    assert leaf.grad is not None
    assert leaf.grad.shape == (0, V)

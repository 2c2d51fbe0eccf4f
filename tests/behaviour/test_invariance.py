"""One step is one step: the loss, every metric and every gradient are the same however the step is cut up.

Layouts x micro-batches that do not divide the batch x head chunks, for every method. Ranks are in tests/distributed.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from bench_of_steps import random_groups, rig

from align.methods.base import find_method, method_names
from align.scoring.experience import families

COUNT = 7  # rows in the step: a prime, so that no cut divides it
CUTS = {
    "padded, one row at a time": ("padded", 1, 10_000),
    "padded, unequal micro-batches": ("padded", 60, 10_000),
    "padded, head in chunks": ("padded", 10_000, 5),
    "packed": ("packed", 10_000, 10_000),
    "packed, unequal micro-batches, chunks": ("packed", 50, 7),
    "shared": ("shared", 10_000, 10_000),
    "shared, unequal micro-batches, chunks": ("shared", 50, 7),
}


@cache
def whole(name: str) -> tuple[Any, Any, Any, Any]:
    method = find_method(name)()
    groups = random_groups(method, COUNT)
    reference = rig(method)
    return method, groups, reference.gradients(groups), reference.step(groups)


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("name", method_names())
def test_a_step_does_not_depend_on_how_it_is_cut(name: str, cut: str):
    method, groups, gradients, result = whole(name)
    layout, max_tokens, head_chunk = CUTS[cut]
    other = rig(method, layout, max_tokens, head_chunk)  # type: ignore[arg-type]
    found = other.gradients(groups)
    assert found.keys() == gradients.keys()
    largest = max(g.abs().max().item() for g in gradients.values())
    for weight, gradient in gradients.items():
        torch.testing.assert_close(
            found[weight], gradient, rtol=1e-4, atol=1e-5 * largest, msg=lambda m, w=weight: f"{w}: {m}"
        )
    again = other.step(groups)
    assert again.metrics == pytest.approx(result.metrics, rel=1e-5, abs=1e-6)
    assert again.grad_norm == pytest.approx(result.grad_norm, rel=1e-4)
    assert again.num_tokens == result.num_tokens


@pytest.mark.parametrize("name", method_names())
def test_cuts_are_what_they_say(name: str):
    """The comparison above would be empty if every cut made one micro-batch."""
    method, groups, _, _ = whole(name)
    sizes = {}
    for cut, (layout, max_tokens, head_chunk) in CUTS.items():
        batching = rig(method, layout, max_tokens, head_chunk).batching  # type: ignore[arg-type]
        sizes[cut] = batching.plan(batching.needs.batch.arrange(groups), batching.needs.learned()).ranks[0]
    together = batching.needs.batch.together  # then a prompt's rows are never cut apart
    assert len(sizes["padded, one row at a time"]) == (len(families(groups)) if together else COUNT)
    unequal = {len(micro.groups) for micro in sizes["padded, unequal micro-batches"]}
    assert len(unequal) > 1
    if "logps" in batching.needs.live(batching.needs.learned()[0]):
        assert sizes["padded, head in chunks"][0].num_chunks > 1

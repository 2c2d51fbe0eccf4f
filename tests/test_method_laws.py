"""What holds for every method of the package, whatever its loss."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import method_batches as batches
import pytest
import torch
from jaxtyping import TypeCheckError
from torch import Tensor

from align.cli.entries import metrics_beside
from align.errors import UserError
from align.methods import base
from align.methods.base import Loss, Method, OfflineMethod, OnlineMethod, find_method, method_names
from align.system.ranges import choices_of, ranges_of

ROWS, WIDTH = 7, 5
OTHERWISE = ("dual_clip",)  # above 1, or 0
every_method = pytest.mark.parametrize("method", [find_method(name)() for name in method_names()], ids=method_names())


def loss_of(method: Method[Any], tensors: batches.Tensors) -> Loss:
    return method.loss(batches.ready(method, batches.build(method.needs(), tensors)))


def gradients(method: Method[Any], tensors: batches.Tensors) -> batches.Tensors:
    leaves = batches.live(method.needs(), tensors)
    made = torch.autograd.grad(batches.objective(loss_of(method, tensors)), list(leaves.values()), allow_unused=True)
    return {n: torch.zeros_like(leaves[n]) if g is None else g for n, g in zip(leaves, made, strict=True)}


def changed(tensors: batches.Tensors, change: Callable[[str, Tensor], Tensor]) -> batches.Tensors:
    """New leaves, where there were leaves."""
    return {n: change(n, t.detach()).clone().requires_grad_(t.requires_grad) for n, t in tensors.items()}


def mask_of(name: str, tensors: batches.Tensors) -> Tensor | None:
    """The mask of a (B, T) column of numbers, None for everything else."""
    mask = tensors.get(f"{name.split('.')[0]}.mask")
    whole = mask is not None and tensors[name].is_floating_point() and tensors[name].shape == mask.shape
    return mask if whole else None


@every_method
@pytest.mark.parametrize("size", [1e-30, 1e-8, 1.0, 1e2, 1e4])
def test_gradients_are_finite_and_some_are_there(method: Method[Any], size: float) -> None:
    tensors = batches.random_tensors(method.needs(), ROWS, WIDTH, dtype=torch.float32)
    made = gradients(method, changed(tensors, lambda name, t: t * size if t.is_floating_point() else t))
    assert all(grad.isfinite().all() for grad in made.values())
    if size == 1.0:
        assert any(grad.any() for grad in made.values())


@every_method
def test_certain_tokens_have_finite_gradients(method: Method[Any]) -> None:
    tensors = batches.random_tensors(method.needs(), ROWS, WIDTH, dtype=torch.float32)
    made = gradients(method, changed(tensors, lambda name, t: torch.zeros_like(t) if name.endswith("logps") else t))
    assert all(grad.isfinite().all() for grad in made.values())


@every_method
@pytest.mark.parametrize("junk", [1e30, math.nan, math.inf, -math.inf])
def test_masked_places_have_no_influence_and_no_gradient(method: Method[Any], junk: float) -> None:
    clean = batches.random_tensors(method.needs(), ROWS, WIDTH)

    def spoil(name: str, tensor: Tensor) -> Tensor:
        mask = mask_of(name, clean)
        return tensor if mask is None else tensor.masked_fill(~mask, junk)

    spoilt = changed(clean, spoil)
    before, after = batches.sums(loss_of(method, clean)), batches.sums(loss_of(method, spoilt))
    assert all(torch.equal(before[name][0], after[name][0]) for name in before)
    without, with_junk = gradients(method, clean), gradients(method, spoilt)
    for name, grad in with_junk.items():
        assert torch.equal(grad, without[name])
        mask = mask_of(name, clean)
        assert mask is None or not grad[~mask].any()


@every_method
def test_padding_changes_nothing(method: Method[Any]) -> None:
    tensors = batches.random_tensors(method.needs(), ROWS, WIDTH)

    def pad(name: str, tensor: Tensor) -> Tensor:
        if tensor.ndim == 1:
            return tensor
        left, right = torch.ones_like(tensor[:, :2]), torch.ones_like(tensor[:, :3])
        return torch.cat(
            [left ^ left, tensor, right ^ right] if tensor.dtype == torch.bool else [left, tensor, right], 1
        )

    before, after = batches.sums(loss_of(method, tensors)), batches.sums(loss_of(method, changed(tensors, pad)))
    for name, (total, count, _) in before.items():
        torch.testing.assert_close(after[name][0], total, rtol=1e-12, atol=1e-12)
        assert after[name][1] == count


@every_method
def test_masks_of_terms_do_not_depend_on_the_trained_model(method: Method[Any]) -> None:
    tensors = batches.random_tensors(method.needs(), ROWS, WIDTH, seed=1)
    other = batches.random_tensors(method.needs(), ROWS, WIDTH, seed=2)
    alive = {f"{m}.{c}" for m in method.needs().members for c in method.needs().live(m)}
    mixed = {name: other[name] if name in alive else tensor for name, tensor in tensors.items()}
    before, after = loss_of(method, tensors).terms, loss_of(method, mixed).terms
    for name, term in before.items():
        assert (term.mask is None) == (after[name].mask is None)
        assert term.mask is None or torch.equal(term.mask, after[name].mask)  # type: ignore[arg-type]
        assert term.mask is None or term.mask.shape == term.values.shape
        assert term.weight or not term.values.requires_grad


@every_method
def test_the_order_of_rows_changes_nothing_else(method: Method[Any]) -> None:
    tensors = batches.random_tensors(method.needs(), ROWS, WIDTH)
    order = torch.randperm(ROWS, generator=torch.Generator().manual_seed(0))
    before = loss_of(method, tensors).terms
    after = loss_of(method, changed(tensors, lambda name, t: t[order])).terms
    for name, term in before.items():
        torch.testing.assert_close(after[name].values, term.values[order], rtol=1e-12, atol=1e-12)


@every_method
@pytest.mark.parametrize("sizes", [(1, 2, 4), (6, 1), (3, 4)])
def test_micro_batches_of_unequal_size_add_up(method: Method[Any], sizes: tuple[int, ...]) -> None:
    tensors = batches.random_tensors(method.needs(), ROWS, WIDTH)
    if method.needs().batch.together:  # only prompts as a whole may be told apart
        tensors["groups"] = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    whole = batches.ready(method, batches.build(method.needs(), tensors))
    wanted = batches.sums(method.loss(whole))
    parts = [batches.sums(method.loss(whole.select(rows))) for rows in torch.arange(ROWS).split(list(sizes))]
    for name, (total, count, weight) in wanted.items():
        added = torch.stack([part[name][0] for part in parts]).sum()
        torch.testing.assert_close(added, total, rtol=1e-12, atol=1e-12)
        assert sum(part[name][1] for part in parts) == count
        assert {part[name][2] for part in parts} == {weight}


@every_method
def test_the_loss_does_not_change_the_batch(method: Method[Any]) -> None:
    tensors = batches.random_tensors(method.needs(), ROWS, WIDTH)
    copy = {name: tensor.detach().clone() for name, tensor in tensors.items()}
    gradients(method, tensors)
    assert all(torch.equal(tensors[name].detach(), copy[name]) for name in copy)


@every_method
def test_misspelt_knobs_are_refused(method: Method[Any]) -> None:
    for knob in [f.name for f in dataclasses.fields(method)] or ["beta"]:
        with pytest.raises(TypeError, match=f"{knob}x"):
            type(method)(**{f"{knob}x": 1.0})


@every_method
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_knobs_that_are_no_numbers_are_refused(method: Method[Any], value: float) -> None:
    for field in dataclasses.fields(method):
        if isinstance(field.default, float) and "remembered" not in field.metadata:
            with pytest.raises(ValueError, match=rf"{method.name}\.{field.name} is -?(nan|inf); it must be"):
                dataclasses.replace(method, **{field.name: value})


@every_method
def test_knobs_keep_to_their_ranges_and_choices(method: Method[Any]) -> None:
    for knob, allowed in ranges_of(type(method)).items():
        kind = int if isinstance(getattr(method, knob), int) else float
        for value in (kind(end) for end in (allowed.least - 1, allowed.most + 1) if math.isfinite(end)):
            with pytest.raises(ValueError, match=rf"{method.name}\.{knob} is .*; it must be {allowed}"):
                dataclasses.replace(method, **{knob: value})
    for knob in choices_of(type(method)):
        with pytest.raises((ValueError, TypeCheckError), match=knob):  # in tests annotations are checked, too
            dataclasses.replace(method, **{knob: "otherwise"})


@every_method
def test_a_knob_says_its_range_in_its_annotation(method: Method[Any]) -> None:
    said = {*ranges_of(type(method)), *choices_of(type(method)), *OTHERWISE}
    knobs = [f for f in dataclasses.fields(method) if "remembered" not in f.metadata]
    assert [f.name for f in knobs if f.name not in said and re.search("float|int", str(f.type))] == []


@every_method
def test_a_method_is_frozen_and_inherits_from_the_base_alone(method: Method[Any]) -> None:
    assert type(method).__bases__ in ((OfflineMethod,), (OnlineMethod,))
    for knob in ("name", *(f.name for f in dataclasses.fields(method))):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(method, knob, getattr(method, knob))


@every_method
def test_file_name_and_docstring_tell_the_method(method: Method[Any]) -> None:
    module = importlib.import_module(type(method).__module__)
    assert module.__name__ == f"align.methods.{method.name}"
    text = module.__doc__ or ""
    assert method.paper
    assert method.paper in text
    assert "loss = " in text
    assert "Metrics:" in text
    assert "Departures:" in text
    terms = loss_of(method, batches.random_tensors(method.needs(), ROWS, WIDTH)).terms
    said = metrics_beside(type(method))  # by `align methods NAME`, below the page
    assert said.keys() <= terms.keys()
    unexplained = [name for name in terms if name not in ("loss", *said) and f"`{name}`" not in text]
    assert not unexplained


@every_method
def test_no_method_imports_another(method: Method[Any]) -> None:
    source = Path(importlib.import_module(type(method).__module__).__file__ or "").read_text()
    froms = [node.module for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ImportFrom)]
    assert {m for m in froms if m and m.startswith("align.methods")} == {"align.methods.base"}


def test_a_knob_of_another_method_is_refused() -> None:
    with pytest.raises(TypeError, match="label_smoothing"):
        find_method("dpo")(label_smoothing=0.1)  # type: ignore[call-arg]


def test_unknown_methods_are_named_with_the_nearest_one() -> None:
    with pytest.raises(UserError, match=r"no such method: dpoo; .* Did you mean dpo\?"):
        find_method("dpoo")


def test_the_base_is_no_method() -> None:
    assert "base" not in method_names()
    assert base.Method not in [find_method(name) for name in method_names()]

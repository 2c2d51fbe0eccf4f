"""The average of several models' weights (model soups, arXiv:2203.05482; as a reference SALSA, arXiv:2411.01798)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import nn

from align.errors import UserError


@torch.no_grad()
def averaged(models: Iterable[tuple[str, nn.Module]], shares: Sequence[float]) -> nn.Module:
    """The first model, holding sum_m share_m * weights_m; computed in float32 at least, one model beside it at a time.

    Models that are equal give themselves, bit for bit. Buffers stay the first one's. Raises UserError naming the
    model whose parameters have other names or shapes.
    """
    made: nn.Module | None = None
    done, dtypes = 0.0, dict[str, torch.dtype]()
    for (name, model), share in zip(models, shares, strict=True):
        done += share
        if made is None:
            made, dtypes = model, {key: p.dtype for key, p in model.named_parameters()}
            for parameter in made.parameters():
                parameter.data = parameter.data.to(torch.promote_types(parameter.dtype, torch.float32))
        elif done > 0:
            _mix(made, name, model, share / done)
    assert made is not None, "a soup of nothing"
    for key, parameter in made.named_parameters():
        parameter.data = parameter.data.to(dtypes[key])
    return made


def _mix(made: nn.Module, name: str, model: nn.Module, share: float) -> None:
    ours, theirs = dict(made.named_parameters()), dict(model.named_parameters())
    shapes = ({key: tuple(p.shape) for key, p in of.items()} for of in (ours, theirs))
    if odd := [key for key, _ in sorted(set.symmetric_difference(*(set(of.items()) for of in shapes)))]:
        which = ", ".join(list(dict.fromkeys(odd))[:4])
        raise UserError(
            f"model.reference.soup: {name} has other parameters than the first model ({which}); average models of one "
            "architecture, trained from the same weights"
        )
    for key, parameter in ours.items():
        parameter.data = torch.lerp(parameter.data, theirs[key].data.to(parameter.dtype), share)

"""How far two right ways of computing a number may lie apart in the precision that a model computes in.

Two kernels, or one kernel at two shapes, round each result on their way differently, and what that does to a
log-probability depends on the model. So it is measured: copies of the same rows run through the model side by side
while every layer's answer is rounded anew, by chance, in each of them. The copies differ by rounding and by nothing
else. (Another shape alone would not do: on some machines a kernel rounds a row alike in any company.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

TOLERANCE = 1e-4  # nats, or of a score, in float32
ROUNDINGS = 2.0  # times the distance of copies that were rounded apart is no longer rounding


def is_exact(precision: torch.dtype | None) -> bool:
    """Whether differences above `TOLERANCE` are none of rounding. None is float32 without autocast."""
    return precision in (None, torch.float32, torch.float64)


def distance(
    one: Float[Tensor, "*copies S T"],
    other: Float[Tensor, "S T"],
    mask: Bool[Tensor, "S T"],
    precision: torch.dtype | None,
) -> float:
    """How far apart two computations are where the mask is True: the largest difference where little is rounded.

    Else the largest of the rows' medians: what is wrong with a row moves all of it, but where rounding sends a token to
    another expert it moves that one alone, and far. Infinite where a number is none.
    """
    gap = (one - other).abs()
    if not gap[..., mask].isfinite().all():
        return torch.inf
    if is_exact(precision):
        return gap[..., mask].max().item()
    some = mask.any(-1)
    return gap.masked_fill(~mask, torch.nan)[..., some, :].nanmedian(-1).values.max().item()


@contextmanager
def shaken(model: nn.Module, precision: torch.dtype, seed: int = 0) -> Iterator[None]:
    """While this lasts, every innermost module of the model answers up to half a unit in the last place beside what it
    would, each number by its own chance."""
    draws: dict[torch.device, torch.Generator] = {}

    def shake(module: nn.Module, args: Any, made: Any) -> Any:
        if not isinstance(made, Tensor) or not made.is_floating_point():
            return made
        if made.device not in draws:
            draws[made.device] = torch.Generator(made.device).manual_seed(seed)
        chance = torch.rand(made.shape, generator=draws[made.device], device=made.device) - 0.5
        return (made * (1 + chance * torch.finfo(precision).eps)).to(made.dtype)

    hooks = [m.register_forward_hook(shake) for m in model.modules() if next(m.children(), None) is None]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def limit(
    model: nn.Module,
    precision: torch.dtype | None,
    copies: Callable[[], Float[Tensor, "copies S T"]],
    mask: Bool[Tensor, "S T"],
) -> float:
    """What two right ways may differ by. `copies` has the model compute the same rows several times."""
    if precision is None or is_exact(precision):
        return TOLERANCE
    with torch.no_grad(), shaken(model, precision):
        made = copies().float()
    return max(TOLERANCE, ROUNDINGS * distance(made, made[0], mask, precision))

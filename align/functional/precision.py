"""Autocast for kernels that it does not know."""

from __future__ import annotations

import torch
from torch import Tensor


def lowered(*tensors: Tensor) -> tuple[Tensor, ...]:
    """In the precision of autocast where that is on, as torch's own kernels take what they are given; else as they are.

    What comes to a kernel under autocast may be of two precisions: a product has the lower one, what was made of a
    product and a float32 number the higher.
    """
    device = tensors[0].device.type
    if not (torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)):
        return tensors
    return tuple(tensor.to(torch.get_autocast_dtype(device)) for tensor in tensors)

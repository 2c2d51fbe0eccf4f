"""A device that is none: its tensors live on the CPU, and refuse to be used together with the CPU's.

What a GPU would refuse is refused here: an operation on tensors of both, a numpy array of one that is elsewhere. So a
tensor that was made on the CPU and forgotten there is found without a GPU, and the numbers are the CPU's.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from accelerate import Accelerator
from bench_of_steps import alone
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as tree
from torch.utils._python_dispatch import TorchDispatchMode

DEVICE = torch.device("meta")  # torch knows it without a driver; gradients are made on the CPU's thread
BOTH = ("copy_", "_to_copy", "index", "index_put", "index_put_", "_index_put_impl_")  # may have the CPU's tensors, too


class Distant(Tensor):
    """A tensor of the device that is none, around the CPU's tensor `here`."""

    here: Tensor

    @staticmethod
    def __new__(cls, here: Tensor) -> Distant:
        made = Tensor._make_wrapper_subclass(
            cls, here.shape, strides=here.stride(), storage_offset=here.storage_offset(), dtype=here.dtype,
            layout=here.layout, device=DEVICE, requires_grad=here.requires_grad,
        )  # fmt: skip
        made.here = here
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return compute(func, args, kwargs or {})

    def tolist(self) -> Any:
        return self.cpu().tolist()

    def numpy(self, **options: Any) -> Any:
        raise TypeError(f"a tensor of {self.device} has no numpy array; copy it to the CPU first")

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.here.__reduce_ex__(protocol)  # a file has bytes and no device

    def __repr__(self, **options: Any) -> str:
        return f"elsewhere: {self.here!r}"


def compute(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """The operation on the CPU; its result is where its arguments are, or where `device` says."""
    given = [t for t in tree.tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
    distant = [t for t in given if isinstance(t, Distant)]
    name = func._schema.name.removeprefix("aten::")
    near = [t for t in given if not isinstance(t, Distant) and t.dim()]
    if distant and near and not (name in BOTH and (name in BOTH[:2] or isinstance(args[0], Distant))):
        raise RuntimeError(f"{name}: tensors of two devices: {[(str(t.device), tuple(t.shape)) for t in given]}")
    asked = kwargs.get("device")
    there = bool(distant) if asked is None else torch.device(asked) == DEVICE
    if asked is not None:
        kwargs = {**kwargs, "device": torch.device("cpu")}
    inner_args, inner_kwargs = tree.tree_map_only(Distant, lambda t: t.here, (args, kwargs))
    made = func(*inner_args, **inner_kwargs)
    if name == "_local_scalar_dense" or (name == "copy_" and not isinstance(args[0], Distant)):
        return made if name != "copy_" else args[0]
    if not there:
        return made
    known = {id(t.here): t for t in distant}  # what was changed in place is the tensor that it was
    return tree.tree_map_only(Tensor, lambda t: known[id(t)] if id(t) in known else Distant(t), made)


class Elsewhere(TorchDispatchMode):
    """Also what names the device itself: new tensors, and those that are moved there."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return compute(func, args, kwargs or {})


class FromData(TorchFunctionMode):
    """torch gives a new tensor of a device without memory no content; here it has what it is made from."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        options = dict(kwargs or {})
        if func in (torch.tensor, torch.as_tensor, torch.asarray) and options.get("device") is not None:
            where = torch.device(options.pop("device"))
            return func(*args, **options).to(where)
        return func(*args, **options)


@contextmanager
def elsewhere() -> Iterator[None]:
    """Runs in this process have their device elsewhere, and modules can be moved there."""
    before, own = torch.__future__.get_swap_module_params_on_conversion(), Accelerator.device
    torch.__future__.set_swap_module_params_on_conversion(True)
    Accelerator.device = property(lambda self: DEVICE)
    alone.cache_clear()  # a world knows its device from its beginning
    try:
        with FromData(), Elsewhere():
            yield
    finally:
        Accelerator.device = own
        alone.cache_clear()
        torch.__future__.set_swap_module_params_on_conversion(before)

"""Keys and values with room behind them, so that a token is written where it belongs.

transformers' growing cache makes a new tensor of all that is there for every token, which costs as much as the
attention over it.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor
from transformers.cache_utils import DynamicLayer

from align.functional.precision import lowered

ROOM = 64  # tokens that are made room for at once


class RoomyLayer(DynamicLayer):
    """A `DynamicLayer` whose keys and values are the front of larger tensors. Nothing here has a gradient."""

    def __init__(self, keys: Tensor, values: Tensor):
        super().__init__()
        self.dtype, self.device, self.is_initialized = keys.dtype, keys.device, True
        self._stores = [keys, values]
        self._length = keys.shape[-2]
        self._show()

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        start, self._length = self._length, self._length + key_states.shape[-2]
        for i, new in enumerate((key_states, value_states)):
            if self._stores[i].shape[-2] < self._length:
                self._stores[i] = _longer(self._stores[i], start, self._length + ROOM - 1)
            self._stores[i][..., start : self._length, :] = new
        return self._show()

    @property
    def own_length(self) -> int:
        """Tokens whose keys are in this layer's own tensors."""
        return self._length

    def join(self, other: RoomyLayer, length: int) -> None:
        """Takes the rows of another layer in, behind its own. All end together, `length` tokens in; what a row does not
        have, or what of it is further back, is zeros that a mask has to hide."""
        stores: list[Tensor] = []
        for mine, theirs in zip(self._stores, other._stores, strict=True):
            heads, width = mine.shape[1], mine.shape[3]
            joined = mine.new_zeros((len(mine) + len(theirs), heads, length + ROOM, width))
            for rows, part, there in (
                (joined[: len(mine)], mine, self._length),
                (joined[len(mine) :], theirs, other._length),
            ):
                kept = min(there, length)
                rows[:, :, length - kept : length] = part[:, :, there - kept : there]
            stores.append(joined)
        self._stores, self._length = stores, length
        self._show()

    def batch_select_indices(self, indices: Tensor) -> None:
        self._stores = [store[indices] for store in self._stores]
        self._show()

    def _show(self) -> tuple[Tensor, Tensor]:
        self.keys, self.values = (store[..., : self._length, :] for store in self._stores)
        return self.keys, self.values


def make_room(cache: Any) -> None:
    """Replaces the layers of the plainest kind. Sliding windows and whatever else there may be stay as they are."""
    for i, layer in enumerate(cache.layers):
        if type(layer) is DynamicLayer and layer.keys is not None and layer.values is not None:
            cache.layers[i] = RoomyLayer(*lowered(layer.keys, layer.values))


def _longer(store: Tensor, length: int, room: int) -> Tensor:
    longer = store.new_empty((*store.shape[:-2], room, store.shape[-1]))
    longer[..., :length, :] = store[..., :length, :]
    return longer

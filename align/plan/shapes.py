"""A model in numbers: the widths of a decoder, as its config.json has them, and how many weights it has.

Where the weights are there, they are counted in the headers of the safetensors files, read by hand; else they are
those of a plain decoder of these widths.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from align.errors import UserError
from align.recipe.look_at_models import model_folder, whole_folder

PLAIN = ("gpt2", "gpt_neox", "opt", "bloom", "falcon", "phi")  # whose MLP has no gate
TIED = ("gpt2", "gemma", "gemma2", "gemma3_text", "opt")  # head and embedding are one, where the config does not say


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A decoder: attention with grouped keys, a gated or plain MLP of one or more experts, embedding, head."""

    hidden: int
    layers: int
    vocabulary: int
    heads: int
    groups: int  # heads of keys and values
    head: int  # dimensions of one
    inner: int  # width of the MLP
    experts: int = 1
    active: int = 1  # experts that a token goes through
    gated: bool = True
    tied: bool = False

    @property
    def queries(self) -> int:
        """Width of all heads together."""
        return self.heads * self.head

    @property
    def keys(self) -> int:
        """Width of the keys of a token in one layer, and of its values."""
        return self.groups * self.head

    @property
    def wide(self) -> int:
        """Numbers that a token has inside of an MLP: up, the product, and with a gate the gate and what silu makes of
        it; of each expert that it goes through."""
        return self.active * self.inner * (4 if self.gated else 2)

    def layer(self) -> Iterator[tuple[int, ...]]:
        """The matrices and vectors of one layer."""
        h, mlp = self.hidden, [(self.inner, self.hidden)] * (2 if self.gated else 1) + [(self.hidden, self.inner)]
        yield from ((self.queries, h), (self.keys, h), (self.keys, h), (h, self.queries))
        yield from mlp * self.experts
        yield from ((h,), (h,))

    def outside(self) -> Iterator[tuple[int, ...]]:
        """What is in no layer."""
        yield from [(self.vocabulary, self.hidden)] * (1 if self.tied else 2)
        yield (self.hidden,)

    def of_layer(self) -> int:
        return sum(map(prod, self.layer()))

    def count(self) -> int:
        """All weights."""
        return self.layers * self.of_layer() + sum(map(prod, self.outside()))

    def used(self) -> int:
        """Weights that a token is multiplied by: of several experts those that it goes through, without embedding."""
        idle = (self.experts - self.active) * self.inner * self.hidden * (3 if self.gated else 2)
        return self.layers * (self.of_layer() - idle) + self.vocabulary * self.hidden

    def adapted(self, rank: int) -> int:
        """Weights of a low-rank adapter on all matrices of all layers: (out, in) gets two of `rank`."""
        return self.layers * sum(rank * sum(shape) for shape in self.layer() if len(shape) == 2)


def shape_of(config: dict[str, Any], vocabulary: int = 0) -> Shape:
    """The decoder of a config.json; `vocabulary` where it does not say."""
    config = config.get("text_config", config)
    hidden = _first(config, "hidden_size", "n_embd", "d_model")
    heads = _first(config, "num_attention_heads", "n_head") or 1
    kind = config.get("model_type")
    return Shape(
        hidden=hidden,
        layers=_first(config, "num_hidden_layers", "n_layer"),
        vocabulary=_first(config, "vocab_size") or vocabulary,
        heads=heads,
        groups=_first(config, "num_key_value_heads") or heads,
        head=_first(config, "head_dim") or hidden // heads,
        inner=_first(config, "intermediate_size", "n_inner", "ffn_dim") or 4 * hidden,
        experts=_first(config, "num_local_experts", "num_experts") or 1,
        active=_first(config, "num_experts_per_tok") or 1,
        gated=kind not in PLAIN,
        tied=config.get("tie_word_embeddings", kind in TIED),
    )


def is_mixture(config: dict[str, Any]) -> bool:
    return bool(_first(config.get("text_config", config), "num_local_experts", "num_experts"))


def in_files(name: str) -> int:
    """Weights in the folder's safetensors files, of an adapter in its base's; 0 where there are none."""
    return _in(whole_folder(name), "model*.safetensors")


def of_adapter(name: str) -> int:
    """Weights of the adapter that a folder holds; 0 where it holds none."""
    return _in(model_folder(name), "adapter_model*.safetensors")


def _in(folder: Path | None, pattern: str) -> int:
    files = sorted(folder.glob(pattern)) if folder else []
    return sum(prod(shape) for file in files for shape in _shapes(file))


def _shapes(file: Path) -> Iterator[list[int]]:
    """Format: 8 bytes little-endian length, then that much JSON of name -> {dtype, shape, data_offsets}."""
    try:
        with file.open("rb") as stream:
            header = json.loads(stream.read(struct.unpack("<Q", stream.read(8))[0]))
        yield from (entry["shape"] for name, entry in header.items() if name != "__metadata__")
    except (OSError, ValueError, struct.error, KeyError) as error:
        raise UserError(f"{file}: not a whole safetensors file: {error}; copy or download it again") from None


def _first(config: dict[str, Any], *names: str) -> int:
    found = next((config[n] for n in names if config.get(n) is not None), 0)
    return max(found) if isinstance(found, list) else found  # a list has one for each layer

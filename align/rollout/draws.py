"""Random numbers that depend on a seed and a place, and on nothing else: not on the batch, the order or the device."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from align.rollout.engine import Sampling

SIDE = 64  # tokens of a block of the vocabulary
GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def uniforms(seeds: np.ndarray, places: np.ndarray) -> np.ndarray:
    """(N,) uint64 seeds, (N,) places -> (N,) float64 in [0, 1): splitmix64 (Steele, Lea, Flood, 2014) over both."""
    return (combined(seeds, places) >> np.uint64(11)) * 2.0**-53


def combined(seeds: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """(N,) uint64: a seed for each number, unrelated to its neighbours' and to the seed itself."""
    with np.errstate(over="ignore"):
        return _mixed(_mixed(seeds) + GOLDEN * (numbers.astype(np.uint64) + np.uint64(1)))


def seed_of(*numbers: int) -> int:
    """One seed for a list of numbers, in this order."""
    seed = np.zeros(1, dtype=np.uint64)
    for number in numbers:
        seed = combined(seed, np.array([number]))
    return int(seed[0])


def _mixed(x: np.ndarray) -> np.ndarray:
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def draw(probs: Float[Tensor, "N V"], uniform: Float[Tensor, " N"], sampling: Sampling) -> Int[Tensor, " N"]:
    """A token for each row: where the cumulated probability passes its uniform number.

    Whole blocks of the vocabulary are passed first, then the tokens of one block.
    """
    probs = filtered(probs, sampling)
    blocks = F.pad(probs, (0, -probs.shape[1] % SIDE)).unflatten(1, (-1, SIDE))
    masses = blocks.sum(-1).double()
    passed = masses.cumsum(-1)
    wanted = uniform[:, None] * passed[:, -1:]
    block = _where(passed, wanted)
    inside = blocks[torch.arange(len(blocks), device=block.device), block.squeeze(1)].double().cumsum(-1)
    token = _where(inside, (wanted - (passed - masses).gather(1, block)).clamp(min=0))
    return (block * SIDE + token).squeeze(1)


def _where(cumulated: Float[Tensor, "N K"], wanted: Float[Tensor, "N 1"]) -> Int[Tensor, "N 1"]:
    """The first place where a sum has passed what is wanted; where rounding lets none pass it, the last that adds.

    Sums that are not numbers end in the last place: what they came from is told where the loss is looked at.
    """
    last = torch.searchsorted(cumulated, cumulated[:, -1:].contiguous()).clamp(max=cumulated.shape[1] - 1)
    return torch.searchsorted(cumulated, wanted.contiguous(), right=True).minimum(last)


def filtered(probs: Float[Tensor, "N V"], sampling: Sampling) -> Float[Tensor, "N V"]:
    """Zero where top-k, min-p or top-p leave a token out, in this order; not normalised. Of equals the first stay."""
    if 0 < sampling.top_k < probs.shape[-1]:
        kept = torch.zeros_like(probs, dtype=torch.bool).scatter_(-1, probs.topk(sampling.top_k).indices, True)
        probs = probs.masked_fill(~kept, 0.0)
    if sampling.min_p > 0:
        probs = probs.masked_fill(probs < sampling.min_p * probs.amax(-1, keepdim=True), 0.0)
    if sampling.top_p < 1:
        ordered, order = probs.sort(dim=-1, descending=True, stable=True)
        reached = ordered.cumsum(-1, dtype=torch.float64)
        out = reached - ordered >= sampling.top_p * reached[:, -1:]
        probs = probs.masked_fill(torch.zeros_like(out).scatter_(-1, order, out), 0.0)
    return probs

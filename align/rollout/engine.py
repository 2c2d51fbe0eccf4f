"""What a rollout engine is asked, and what it answers.

An engine writes completions with the weights it was last given. Token ids go in and come out: text is made of them
elsewhere.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np


class StopReason(enum.StrEnum):
    """Why a completion is as long as it is."""

    EOS = "eos"  # it ends with a token that ends a turn; the token is part of it
    STRING = "stop_string"  # its text came to contain a stop string
    LENGTH = "length"  # as long as the recipe allows: cut
    WINDOW = "window"  # as long as this request allows: it may go on in another
    ENVIRONMENT = "environment"  # the environment said that it is over


@dataclass(frozen=True)
class Sampling:
    """From which distribution tokens are drawn, and where a completion ends."""

    max_completion_length: int
    stop_token_ids: tuple[int, ...]
    stop_strings: tuple[str, ...] = ()
    temperature: float = 1.0  # 0 takes the likeliest token
    top_k: int = 0  # 0 keeps all
    top_p: float = 1.0
    min_p: float = 0.0  # tokens less likely than this share of the likeliest are left out


def nothing() -> np.ndarray:
    return np.empty(0, dtype=np.int32)


@dataclass(frozen=True)
class Request:
    """Completions of one prompt, each from a seed of its own."""

    prompt: np.ndarray  # (L,) int32
    seeds: tuple[int, ...]  # one for each completion; with its place in the completion, all that a draw depends on
    prefix: np.ndarray = field(default_factory=nothing)  # (K,) int32: how the completions begin
    window: int = 0  # new tokens at most; 0: up to max_completion_length
    earlier: int = 0  # tokens of the prefix in turns that have ended: no stop string begins there


def room_of(request: Request, sampling: Sampling) -> tuple[int, StopReason]:
    """How many new tokens there is room for, and why a completion stops that takes them all."""
    room = sampling.max_completion_length - len(request.prefix)
    return (request.window, StopReason.WINDOW) if 0 < request.window < room else (room, StopReason.LENGTH)


@dataclass(frozen=True)
class Written:
    """One completion, without the prefix of its request."""

    tokens: np.ndarray  # (N,) int32
    logps: np.ndarray  # (N,) float32, under the temperature, before top-k, top-p and min-p
    stop: StopReason
    version: int  # of the weights


@runtime_checkable
class Engine(Protocol):
    """Writes completions."""

    def write(self, requests: Sequence[Request], sampling: Sampling) -> list[list[Written]]:
        """For each request its completions, in the order of its seeds."""
        ...

"""A run inside of somebody's process: what it changes there is afterwards as it was before."""

from __future__ import annotations

import gc
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
import transformers
from accelerate.state import AcceleratorState, GradientState

from align.errors import RunError
from align.outside import AskedToEnd, drawing, place_of
from align.system.machine import told


@contextmanager
def apart() -> Iterator[None]:
    """Within it a run may set what it needs: the environment, where modules are found, generators, warnings, bars.

    What ends it is an error of `align.errors`, also where memory or a disk is full, or code has called `sys.exit`.
    """
    with ExitStack() as kept:
        kept.enter_context(_process())
        kept.enter_context(_libraries())
        kept.enter_context(drawing(0))  # a run seeds for itself
        try:
            yield
        except SystemExit as error:
            raise RunError(f"not finished: {place_of(AskedToEnd.by(error))}") from error
        except Exception as error:
            if (want := told(error)) is None:
                raise
            raise want from error


@contextmanager
def _process() -> Iterator[None]:
    environment, places = dict(os.environ), list(sys.path)
    try:
        with warnings.catch_warnings():
            yield
    finally:
        sys.path[:] = places
        for name in os.environ.keys() - environment.keys():
            del os.environ[name]
        os.environ.update(environment)


@contextmanager
def _libraries() -> Iterator[None]:
    bars = transformers.utils.logging.is_progress_bar_enabled()
    states: list[dict[str, Any]] = [AcceleratorState._shared_state, GradientState._shared_state]
    before = [dict(state) for state in states]
    try:
        yield
    finally:
        for state, values in zip(states, before, strict=True):
            state.clear()
            state.update(values)
        if bars:
            transformers.utils.logging.enable_progress_bar()
        gc.collect()  # a model and its moments are in cycles, and a notebook goes on for hours
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()

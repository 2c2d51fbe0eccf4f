"""Whether a model's cache may be shared by a prompt's completions, repeated, and dropped row by row.

As with layouts, this is measured and not looked up: random prompts of unequal lengths are continued by the engine that
does all of this, and its log-probabilities held against those of the whole sequences, each alone. A sliding window,
which in real models is longer than any probe, is made short for it. What grows wrong with length alone is not seen.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from align.rollout.engine import Request, Sampling
from align.rollout.local_engine import LocalEngine
from align.training.layouts import BLIND, LOOSE, PROBE_WINDOW, REFUSALS, TOLERANCE, narrowed
from align.training.score import Scorer

LENGTHS = ((9, 3), (4, 8), (7, 5))  # prompt, completions: unequal, so that rows are padded, and leave one by one
SEEDS = (1, 2)


def cache_finding(scorer: Scorer) -> str:
    """Empty where the shared cache is right; else what is wrong with it. `scorer` is whole and in evaluation mode."""
    found = _finding(scorer.model)
    if not found and scorer.windows.window is not None and scorer.windows.window > PROBE_WINDOW:
        with narrowed(scorer, PROBE_WINDOW):
            found = _finding(scorer.model)
    return found


@torch.no_grad()
def _finding(model: Any) -> str:
    draw, size = np.random.default_rng(0), model.config.get_text_config().vocab_size
    requests = [Request(draw.integers(0, size, p).astype(np.int32), SEEDS, window=n) for p, n in LENGTHS]
    sampling = Sampling(max_completion_length=max(n for _, n in LENGTHS), stop_token_ids=())
    try:
        answers = LocalEngine(model, 0, str, len(SEEDS) * len(LENGTHS)).write(requests, sampling)
    except REFUSALS as error:
        return f"refused by the model ({type(error).__name__}: {str(error)[:120]})"
    gap, worth = 0.0, 0.0
    for request, written in zip(requests, answers, strict=True):
        for one in written:
            right, blind = (_alone(model, prompt, one.tokens) for prompt in (request.prompt, request.prompt[-1:]))
            gap = max(gap, float(np.abs(one.logps - right).max()))
            worth = max(worth, float(np.abs(blind - right).max()))
    limit = min(TOLERANCE.get(next(model.parameters()).dtype, LOOSE), BLIND * worth)
    return "" if gap < limit else f"log-probabilities differ by {gap:.2g} (limit {limit:.2g})"


def _alone(model: Any, prompt: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    """Log-probabilities of the tokens, in one pass over the whole sequence."""
    ids = torch.from_numpy(np.concatenate([prompt, tokens]).astype(np.int64)).to(model.device)[None]
    logps = model(input_ids=ids, use_cache=False).logits[0, len(prompt) - 1 : -1].float().log_softmax(-1)
    return logps.gather(1, ids[0, len(prompt) :, None]).squeeze(1).cpu().numpy()

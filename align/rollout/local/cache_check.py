"""Whether a model's cache may be shared by a prompt's completions, repeated, and dropped row by row.

As with layouts, this is measured and not looked up: random prompts of unequal lengths are continued by the engine that
does all of this, and its log-probabilities held against those of the whole sequences, each alone. A sliding window,
which in real models is longer than any probe, is made short for it. What grows wrong with length alone is not seen.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from align.rollout.engine import Request, Sampling
from align.rollout.local.engine import LocalEngine
from align.scoring.choose_layout import COPIES, PROBE_WINDOW, narrowed
from align.scoring.probe import BLIND, REFUSALS
from align.scoring.rounding import distance, is_exact, limit
from align.scoring.score import Scorer

LENGTHS = ((9, 3), (4, 8), (7, 5))  # prompt, completions: unequal, so that rows are padded, and leave one by one


def cache_finding(scorer: Scorer) -> str:
    """Empty where the shared cache is right; else what is wrong with it. `scorer` is whole and in evaluation mode.

    As with layouts, what is wrong shows best without autocast.
    """
    found, device = _found(scorer, scorer.computes_in), next(scorer.parameters()).device.type
    if found or scorer.kernel.autocast is None:
        return found
    with torch.autocast(device, enabled=False):
        return _found(scorer, next(scorer.parameters()).dtype)


def _found(scorer: Scorer, precision: torch.dtype) -> str:
    """With the model's own window, and with one that the probe can see."""
    found = _agreed(scorer.model, precision)
    if not found and scorer.windows.window is not None and scorer.windows.window > PROBE_WINDOW:
        with narrowed(scorer, PROBE_WINDOW):
            found = _agreed(scorer.model, precision)
    return found


def _agreed(model: Any, precision: torch.dtype) -> str:
    """What two draws agree on, as in `align.scoring.choose_layout.accepted`."""
    found = _finding(model, precision, 0)
    return found if is_exact(precision) else found and _finding(model, precision, 1)


@torch.no_grad()
def _finding(model: Any, precision: torch.dtype, seed: int) -> str:
    draw, size = np.random.default_rng(seed), model.config.get_text_config().vocab_size
    seeds = (2 * seed + 1, 2 * seed + 2)
    requests = [Request(draw.integers(0, size, p).astype(np.int32), seeds, window=n) for p, n in LENGTHS]
    sampling = Sampling(max_completion_length=max(n for _, n in LENGTHS), stop_token_ids=())
    try:
        answers = LocalEngine(model, 0, str, len(seeds) * len(LENGTHS)).write(requests, sampling)
    except REFUSALS as error:
        return f"refused by the model ({type(error).__name__}: {str(error)[:120]})"
    gaps, worths, limits = list[float](), list[float](), list[float]()
    for request, written in zip(requests, answers, strict=True):
        for one in written:
            tokens, start = one.tokens, request.prompt
            every = torch.ones(1, len(tokens), dtype=torch.bool)
            right, blind = _alone(model, start, tokens), _alone(model, start[-1:], tokens)
            gaps.append(distance(torch.from_numpy(one.logps)[None], right, every, precision))
            worths.append(distance(blind, right, every, precision))
            copies = partial(_copies, model, start, tokens)
            limits.append(limit(model, precision, copies, every))
    gap, most = max(gaps), min(max(limits), BLIND * max(worths))
    return "" if gap < most else f"log-probabilities differ by {gap:.2g} (limit {most:.2g})"


def _copies(model: Any, prompt: np.ndarray, tokens: np.ndarray) -> Float[Tensor, "copies 1 T"]:
    return _alone(model, prompt, tokens, COPIES)[:, None]


def _alone(model: Any, prompt: np.ndarray, tokens: np.ndarray, copies: int = 1) -> Float[Tensor, "copies T"]:
    """Log-probabilities of the tokens, in one pass over the whole sequence, each copy by itself."""
    ids = torch.from_numpy(np.concatenate([prompt, tokens]).astype(np.int64)).to(model.device).expand(copies, -1)
    logps = model(input_ids=ids, use_cache=False).logits[:, len(prompt) - 1 : -1].float().log_softmax(-1)
    return logps.gather(2, ids[:, len(prompt) :, None]).squeeze(2).cpu()

"""A bandit for a policy that writes: of eight arms, which is worth most depends on the prompt, and all are known.

A completion pulls the arm that its first token names, and should then end. A uniform policy over the arms earns 0.5,
the best one 1; other tokens earn 0.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

NUM_ARMS = 8
NUM_PROMPTS = 4
BOS, EOS = 0, 1
FIRST_ARM = 2
FIRST_PROMPT = FIRST_ARM + NUM_ARMS
VOCABULARY = FIRST_PROMPT + NUM_PROMPTS


def prompt(number: int) -> np.ndarray:
    """(2,) int32: the beginning, and one of four questions."""
    return np.array([BOS, FIRST_PROMPT + number % NUM_PROMPTS], dtype=np.int32)


def worth(question: int, token: int) -> float:
    """What the arm of this token is worth; every eighth from 0 to 1, in another order for every question."""
    arm = token - FIRST_ARM
    if not 0 <= arm < NUM_ARMS:
        return 0.0
    return (3 * arm + 2 * question + 1) % NUM_ARMS / (NUM_ARMS - 1)


def reward(
    prompts: Sequence[str], completions: Sequence[str], completion_ids: Sequence[Sequence[int]],
    question: Sequence[int], **columns: object,
) -> list[float]:  # fmt: skip
    """With the signature of a reward function; `question` is a column of the data."""
    return [worth(q, ids[0]) if ids else 0.0 for q, ids in zip(question, completion_ids, strict=True)]

"""Echo: the right completion of prompt token p is token p + SHIFT, then the end. Everything else is wrong.

A one-layer model learns it in a few dozen steps, whatever the method is told: right completions, right ones preferred
to wrong ones, or verdicts on single ones. Rows come without a tokenizer, as groups of tokens.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from align.batches import Group, RowKind, Tokens

NUM_PROMPTS = 8
FIRST = 3  # ids below are BOS, EOS and a separator
SHIFT = NUM_PROMPTS
BOS, EOS, SEPARATOR = 0, 1, 2
VOCABULARY = FIRST + 2 * NUM_PROMPTS


def answer(prompt: int) -> int:
    """The token that belongs to a prompt token."""
    return prompt + SHIFT


def sequence(prompt: int, said: int, filler: int = 0) -> Tokens:
    """BOS, `filler` separators, the prompt token; what is said, and the end."""
    head = np.array([BOS, *[SEPARATOR] * filler, prompt], dtype=np.int32)
    return Tokens(head, np.array([said, EOS], dtype=np.int32), np.ones(2, dtype=bool))


def rows(kind: RowKind, count: int, seed: int) -> list[Group]:
    """`count` rows; prompts go round, so that any eight in a row show all of them."""
    draw = np.random.default_rng(seed)
    groups: list[Group] = []
    for i in range(count):
        prompt = FIRST + i % NUM_PROMPTS
        filler = int(draw.integers(0, 4))
        right = sequence(prompt, answer(prompt), filler)
        wrong = sequence(prompt, _wrong(prompt, draw), filler)
        groups.append(_group(kind, right, wrong, i))
    return groups


def pairs_to_rank() -> list[tuple[Tokens, Tokens]]:
    """Every prompt with its right answer and each wrong one: 8 x 7 pairs."""
    prompts = range(FIRST, FIRST + NUM_PROMPTS)
    return [(sequence(p, answer(p)), sequence(p, answer(q))) for p in prompts for q in prompts if q != p]


def _wrong(prompt: int, draw: np.random.Generator) -> int:
    others = [answer(q) for q in range(FIRST, FIRST + NUM_PROMPTS) if q != prompt]
    return int(draw.choice(others))


def _group(kind: RowKind, right: Tokens, wrong: Tokens, i: int) -> Group:
    if kind == "pairs":
        return Group((right, wrong), {}, i)
    if kind == "demonstrations":
        return Group((right,), {}, i)
    desirable = (i // NUM_PROMPTS) % 2 == 0
    return Group((right if desirable else wrong,), {"label": float(desirable)}, i)


def accuracy(right: Sequence[float], wrong: Sequence[float]) -> float:
    """Share of pairs in which the right answer has the larger number."""
    return float(np.mean(np.array(right) > np.array(wrong)))

from __future__ import annotations

import random

import pytest

from align.scoring.packing import pack_best_fit


def slow_best_fit(lengths: list[int], capacity: int) -> list[list[int]]:
    """The rule, word by word, looking at every row every time."""
    rows: list[list[int]] = []
    used: list[int] = []
    order = sorted(enumerate(lengths), key=lambda pair: pair[1], reverse=True)  # stable
    for document, length in order:
        size = min(length, capacity)
        fits = [r for r in range(len(rows)) if used[r] + size <= capacity]
        if fits:
            row = min(fits, key=lambda r: (capacity - used[r], r))
        else:
            row = len(rows)
            rows.append([])
            used.append(0)
        rows[row].append(document)
        used[row] += size
    return rows


@pytest.mark.parametrize("seed", range(20))
def test_equals_the_rule_word_by_word(seed: int) -> None:
    chance = random.Random(seed)
    capacity = chance.randint(1, 40)
    lengths = [chance.randint(1, capacity + 5) for _ in range(chance.randint(0, 200))]
    assert pack_best_fit(lengths, capacity) == slow_best_fit(lengths, capacity)


def test_by_hand() -> None:
    # Longest first: 6 opens row 0 (4 free), 5 opens row 1 (5 free), 4 fits both and goes to row 0, which is tighter,
    # 3 goes to row 1 (2 free), 2 fills it, 1 opens row 2.
    assert pack_best_fit([3, 6, 1, 4, 5, 2], capacity=10) == [[1, 3], [4, 0, 5], [2]]


def test_too_long_documents_count_as_cut() -> None:
    assert pack_best_fit([99, 10, 1], capacity=10) == [[0], [1], [2]]


def test_every_document_stands_in_one_row_that_holds_it() -> None:
    chance = random.Random(0)
    lengths = [min(1 + int(chance.expovariate(0.01)), 512) for _ in range(20_000)]
    rows = pack_best_fit(lengths, 512)
    assert sorted(document for row in rows for document in row) == list(range(len(lengths)))
    assert all(sum(lengths[document] for document in row) <= 512 for row in rows)
    assert len(rows) <= 1.01 * sum(lengths) / 512  # best fit leaves next to nothing empty on many short documents


@pytest.mark.parametrize(("lengths", "capacity", "word"), [([1], 0, "capacity"), ([3, 0], 4, "document")])
def test_impossible_sizes_are_refused(lengths: list[int], capacity: int, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        pack_best_fit(lengths, capacity)

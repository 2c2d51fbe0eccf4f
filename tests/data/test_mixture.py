"""The order of rows: every row once per epoch, shares kept, nothing repeated before its source is through."""

import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import AutoTokenizer

from align.data.mixture import Mixture, steps_of
from align.data.prepare import prepare
from align.data.settings import DataSection, DataSource

UNION = Mixture(sizes=(7, 7), weights=(1.0, 1.0), seed=3)
SKEWED = Mixture(sizes=(5, 12, 3), weights=(3.0, 1.0, 1.0), seed=3)


def test_one_source_is_a_fresh_permutation_every_epoch() -> None:
    one = Mixture(sizes=(100,), weights=(2.0,), seed=0)
    epochs = [one.epoch(e).tolist() for e in range(3)]
    assert all(sorted(e) == list(range(100)) for e in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    assert epochs[0] != Mixture(sizes=(100,), weights=(2.0,), seed=1).epoch(0).tolist()


def test_equal_weights_and_sizes_are_the_plain_union() -> None:
    assert sorted(UNION.epoch(0).tolist()) == list(range(14))


def test_shares_follow_the_weights_and_sum_to_the_epoch() -> None:
    assert SKEWED.shares() == (12, 4, 4)  # 3/5, 1/5, 1/5 of 20
    assert sum(Mixture(sizes=(3, 3, 4), weights=(1.0, 1.0, 1.0), seed=0).shares()) == 10


@pytest.mark.parametrize("mixture", [UNION, SKEWED])
def test_a_source_is_gone_through_before_it_repeats_across_epochs(mixture: Mixture) -> None:
    stream = mixture.rows(0, 6 * len(mixture))
    first = 0
    for size in mixture.sizes:
        own = stream[(stream >= first) & (stream < first + size)] - first
        for start in range(0, len(own) - size, size):
            assert sorted(own[start : start + size].tolist()) == list(range(size))
        first += size


def test_the_steps_of_a_run_are_the_stream_in_portions() -> None:
    total = 50  # two epochs and a half
    steps = [SKEWED.rows_of_step(s, 8, total) for s in range(steps_of(total, 8))]
    assert [len(s) for s in steps] == [8] * 6 + [2]
    assert np.concatenate(steps).tolist() == SKEWED.rows(0, total).tolist()
    assert SKEWED.rows(0, 20).tolist() == SKEWED.epoch(0).tolist()
    assert SKEWED.rows(17, 23).tolist() == [*SKEWED.epoch(0)[17:].tolist(), *SKEWED.epoch(1)[:3].tolist()]


def test_any_step_can_be_asked_first() -> None:
    fresh = Mixture(sizes=SKEWED.sizes, weights=SKEWED.weights, seed=SKEWED.seed)
    assert fresh.rows_of_step(5, 8, 100).tolist() == SKEWED.rows_of_step(5, 8, 100).tolist()


def test_sources_are_interleaved() -> None:
    big = Mixture(sizes=(500, 500), weights=(1.0, 1.0), seed=0)
    halves = Counter((big.epoch(0)[:500] < 500).tolist())
    assert abs(halves[True] - 250) < 5 * np.sqrt(500 * 0.25)


def test_a_million_rows_are_cheap() -> None:
    big = Mixture(sizes=(600_000, 400_000), weights=(1.0, 2.0), seed=0)
    began = time.process_time()
    big.rows_of_step(0, 64, 10**7)
    assert time.process_time() - began < 2.0
    began = time.process_time()
    for step in range(1, 200):
        big.rows_of_step(step, 64, 10**7)
    assert time.process_time() - began < 0.2


def test_a_file_may_be_in_a_mixture_twice_with_other_columns(tmp_path: Path) -> None:
    tokenizer: Any = AutoTokenizer.from_pretrained("align/assets/stories260k")
    file = tmp_path / "pairs.jsonl"
    rows = [{"prompt": f"Ball {i}:", "chosen": f" good {i}", "rejected": f" bad {i}"} for i in range(40)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    sides = [DataSource(source=str(file), columns={"completion": side}) for side in ("chosen", "rejected")]
    splits = prepare(DataSection(train=sides, validation=0.3), "demonstrations", (), tokenizer, tmp_path / "cache")
    half = len(splits.train) // 2
    assert list(splits.train.counts.sources.values()) == [half, half]
    assert sorted(splits.mixture(seed=0).epoch(0).tolist()) == list(range(2 * half))
    said = [tokenizer.decode(group.members[0].completion, skip_special_tokens=True) for group in splits.train]
    assert all("good" in text for text in said[:half])
    assert all("bad" in text for text in said[half:])
    assert splits.train.place(0).startswith(f"{file} (completion: chosen): row ")
    held_out = [group.members[0].prompt.tolist() for group in splits.validation]
    assert held_out[: len(held_out) // 2] == held_out[len(held_out) // 2 :]  # a prompt is in one split, on both sides

"""The bag of words, and what a cache and data.json say of a store, on stores made for the purpose."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from bench_of_steps import rig

from align.batches import Group, Tokens
from align.data.prepare import Splits
from align.data.store import Entry, Store, StoreWriter
from align.methods.base import find_method
from align.runfolder.data_json import describe_data, histogram
from align.scoring.experience import ModelRole
from align.scoring.roles import cached
from align.training.baselines import bag_of_words

PLANTED = (7, 11)  # tokens of polite answers; all others mean nothing
SIZE = 60

SUM = 32  # bytes at the end of a cache of log-probabilities


def store(folder: Path, count: int, seed: int, *, planted: float) -> Store:
    """Pairs of random answers; with chance `planted` a row's preferred answer has one of the telling tokens."""
    draw = np.random.default_rng(seed)
    writer = StoreWriter(folder, "pairs", ())
    entries: list[Entry] = []
    for i in range(count):
        prompt = draw.integers(20, SIZE, draw.integers(1, 5)).astype(np.int32)
        said = [draw.integers(20, SIZE, draw.integers(3, 9)).astype(np.int32) for _ in range(2)]
        if draw.random() < planted:
            said[0][0] = PLANTED[i % 2]
        members = tuple(Tokens(prompt, s, np.ones(len(s), dtype=bool)) for s in said)
        entries.append(Entry(members=members, numbers={}, key=i, source=0, row=i + 1))
    writer.append(entries)
    writer.counts.sources["made"] = count
    writer.counts.read = count + 3
    writer.counts.bad, writer.counts.overlong = 2, 1
    writer.close()
    return Store(folder, folder.name)


@dataclass(frozen=True)
class Three:
    train: Store
    validation: Store
    test: Store


def three(folder: Path, planted: float) -> Three:
    return Three(
        *(store(folder / n, c, s, planted=planted) for s, (n, c) in enumerate((("a", 300), ("b", 80), ("c", 200))))
    )


def test_a_planted_word_is_found(tmp_path: Path):
    data = three(tmp_path, planted=0.9)
    estimate, hits = bag_of_words(data.train, data.validation, data.test)
    assert estimate.value > 0.88  # 90 % of the rows tell, half of the others come right by chance
    assert estimate.n == len(hits) == 200
    assert set(hits) == {0.0, 1.0}
    assert estimate.value == pytest.approx(np.mean(hits))
    assert estimate.stderr == pytest.approx(np.std(hits, ddof=1) / np.sqrt(200))


def test_where_nothing_tells_it_is_at_chance(tmp_path: Path):
    data = three(tmp_path, planted=0.0)
    estimate, _ = bag_of_words(data.train, data.validation, data.test)
    assert abs(estimate.value - 0.5) < 3.5 * estimate.stderr
    assert bag_of_words(data.train, data.validation, data.test)[0] == estimate  # and it is the same every time


def test_without_validation_pairs_it_still_fits(tmp_path: Path):
    data = three(tmp_path, planted=0.9)
    empty = store(tmp_path / "empty", 0, 9, planted=0.0)
    assert bag_of_words(data.train, empty, data.test)[0].value > 0.85


def test_a_cached_role_gives_what_its_model_gives(tmp_path: Path):
    bench = rig(find_method("dpo")())
    rows = store(tmp_path / "rows", 13, 0, planted=0.5)
    model = bench.roles["ref"].model
    batching = bench.batching
    path = tmp_path / "made" / "ref.f32"
    role = cached(path, model, batching, rows, 4)
    written = path.read_bytes()
    assert len(written) == 4 * rows.completion_lengths.sum() + SUM
    again = cached(path, model, batching, rows, 4)
    assert path.read_bytes() == written
    picked: list[Group] = [rows[i] for i in (12, 0, 5)]
    for kind in (role, again):
        asked = dict.fromkeys(("chosen", "rejected"), ("logps",))
        fresh_ones = ModelRole(model).stored(batching, asked, picked)
        for key, values in kind.stored(batching, asked, picked).items():
            fresh = fresh_ones[key]
            assert (values - fresh).abs().max() < 1e-5
            assert values.shape == fresh.shape


@pytest.mark.parametrize("lost", [-1, 0, 1, 4])
def test_a_cache_of_another_size_or_content_is_made_again(lost: int, tmp_path: Path):
    bench = rig(find_method("dpo")())
    rows, path = store(tmp_path / "rows", 5, 0, planted=0.5), tmp_path / "ref.f32"
    size = 4 * int(rows.completion_lengths.sum()) + SUM
    path.write_bytes(bytes(0 if lost < 0 else size - lost))
    said: list[str] = []
    role = cached(path, bench.roles["ref"].model, bench.batching, rows, 2, said.append)
    assert len(role.values) == (size - SUM) // 4
    assert path.stat().st_size == size
    assert np.all(role.values < 0), "log-probabilities, where there were none"
    assert said == [f"cache of reference log-probabilities {path}: is damaged, and is made again"]


def test_data_json_counts_every_row_and_every_length(tmp_path: Path):
    data = three(tmp_path, planted=0.5)
    splits = Splits(
        train=data.train, validation=data.validation, test=store(tmp_path / "none", 0, 1, planted=0.0), weights=(1.0,),
        chat_template="", notes=("a note",), fingerprint="f",
    )  # fmt: skip
    found = describe_data(splits)
    assert found["notes"] == ["a note"]
    assert found["splits"].keys() == {"train", "validation"}
    train = found["splits"]["train"]
    assert (train["read"], train["kept"], train["source"]) == (303, 300, "made")
    assert train["dropped"] == {"cannot be used": 2, "longer than max_length": 1}
    assert sum(train["prompt_lengths"]["counts"]) == sum(train["lengths"]["counts"]) == 300
    assert sum(train["completion_lengths"]["counts"]) == 600  # both answers


@pytest.mark.parametrize("top", [0, 1, 5, 23, 24, 100, 5000])
def test_every_length_falls_into_one_bin(top: int):
    lengths = np.arange(top + 1)
    found = histogram(lengths)
    assert sum(found["counts"]) == top + 1
    assert len(found["edges"]) == len(found["counts"]) + 1
    assert found["edges"] == sorted(set(found["edges"]))

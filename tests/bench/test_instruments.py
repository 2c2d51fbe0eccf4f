"""The instruments that look at a whole run see what they are made to see."""

from __future__ import annotations

import importlib
import json
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from tests.bench.crossings import Crossings
from tests.bench.sameness import read, write
from tests.bench.sameness_records import differences, record_of, told_of
from tests.helpers.small_runs import TIMES

TOY = {
    "outer": """
        from toy.inner import Model, items, twice

        def work(by_way):
            twice(1)
            own()
            by_way(Model())
            return [twice(i) for i in items()], sum(once() for _ in range(3))

        def own():
            pass

        def once():
            return 1
    """,
    "inner": """
        def twice(x):
            return once(x) + once(x)

        def once(x):
            return x

        def items():
            yield 1
            yield 2

        class Model:
            def __call__(self):
                return once(0)
    """,
}


def run_folder(place: Path, changed: float = 0.0) -> dict[str, Any]:
    """The record of a run of two steps, whose second checkpoint has one element changed by so much."""
    weights = {"first": torch.arange(12.0).reshape(3, 4), "second": torch.linspace(-1, 1, 7)}
    rows = []
    for step in (1, 2):
        folder = place / "checkpoints" / f"step-{step:06d}"
        folder.mkdir(parents=True)
        moved = {n: t + step for n, t in weights.items()}
        moved["second"][3] += changed * (step == 2)
        save_file(moved, folder / "weights.safetensors")
        moments = {"state": {"second": {"exp_avg": moved["second"]}}, "seconds_reward": place.stat().st_mtime}
        torch.save(moments, folder / "optimizer.pt")
        (folder / "identity.json").write_text(json.dumps({"run": str(place)}))
        rows.append({"step": step, "loss": 1.0 / step, **dict.fromkeys(TIMES, place.stat().st_mtime)})
    (place / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return record_of(place, place / "cache")


def test_a_changed_element_is_found_in_its_tensor_and_about_its_size_is_told(tmp_path: Path):
    first, same, other = (run_folder(tmp_path / n, by) for n, by in (("a", 0.0), ("b", 0.0), ("c", 1e-3)))
    assert differences(first, same) == []
    found = differences(first, other)
    assert [(d.file, d.place) for d in found] == [
        ("checkpoints/step-000002/optimizer.pt", "state.second.exp_avg"),
        ("checkpoints/step-000002/weights.safetensors", "second"),
    ]
    assert found[1].size == pytest.approx(1e-3, rel=1e-3)
    assert "weights.safetensors" not in told_of(found)[1]
    assert "state.second.exp_avg: the tensors are about 0.001 apart" in told_of(found)[1]


def test_a_record_is_the_same_after_a_trip_through_its_file(tmp_path: Path):
    record = run_folder(tmp_path / "run")
    write(tmp_path / "record.json", {"cpu": "Z80"}, {"dpo": record, "sft": {}})
    about, known = read(tmp_path / "record.json")
    assert (about, known) == ({"cpu": "Z80"}, {"dpo": record, "sft": {}})
    assert list(known["dpo"]) == list(record)
    lost = {file: of for file, of in record.items() if file != "metrics.jsonl, step 2"}
    assert [(d.place, d.before, d.now) for d in differences(known["dpo"], lost)] == [
        ("step", 2, None), ("loss", 0.5, None),
    ]  # fmt: skip


def test_crossings_of_a_known_toy_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (package := tmp_path / "toy").mkdir()
    for name, text in TOY.items():
        (package / f"{name}.py").write_text(textwrap.dedent(text))
    monkeypatch.syspath_prepend(str(tmp_path))
    outer = importlib.import_module("toy.outer")
    found = Crossings(package)
    sys.setprofile(found)
    outer.work(lambda model: model())
    sys.setprofile(None)
    # work; twice and its 2 calls, own, Model and its call, items, 2 x (twice and its 2 calls), 3 x once
    assert found.told() == {"files": 2, "crossings": 4, "indirect": 1, "calls": 1 + 3 + 1 + 2 + 1 + 6 + 3}
    assert found.direct == {("outer.py", "inner.py"): 4}
    assert found.indirect == {("outer.py", "inner.py"): 1}

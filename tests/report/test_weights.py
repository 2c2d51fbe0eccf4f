"""What a page says of learned weights: the stacked plot, how many sources they are, and when not to trust them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from align.report.findings import findings
from align.report.folder import read_run
from align.report.measured.weights import gaps_of, weights_section
from align.report.page import page


def run_of(folder: Path, *, gap: float = 0.1, last: float = 0.8, steps: int = 40) -> Path:
    """Three sources; the policy's loss of all is `gap` above the twin's, and the first weight grows to `last`."""
    folder.mkdir()
    (folder / "recipe.yaml").write_text("method: {name: scalebio}\n")
    with (folder / "metrics.jsonl").open("w") as out:
        for step in range(1, steps + 1):
            first = 1 / 3 + (last - 1 / 3) * step / steps
            shares = {"one": first, "two": (1 - first) / 2, "<three>": (1 - first) / 2}
            line = {"step": step, "loss": 2.0, "effective_sources": 3 - 2 * step / steps * (last > 0.9)}
            line |= {f"weights/{name}": share for name, share in shares.items()}
            wave = 0.01 * (step % 2)
            line |= {"sources/loss": 2.0 + gap + wave, "twin/loss": 2.0, "sources/one": 1.0, "twin/one": 0.75}
            out.write(json.dumps(line) + "\n")
    return folder


def test_weights_are_stacked_to_the_whole(tmp_path: Path) -> None:
    drawn = page([read_run(run_of(tmp_path / "run"))])
    areas = re.findall(r'<g class="c(\d)"><title>[^<]*</title>\s*<path class="area" d="M([^"]+)Z"', drawn)
    assert [slot for slot, _ in areas] == ["0", "1", "2"]
    corners = [[float(n) for n in point.split()] for point in areas[-1][1].split("L")]
    assert min(y for _, y in corners) == pytest.approx(10, abs=0.11), "the last one ends at the top of the plot"
    below = {(x, y) for x, y in (p.split() for p in areas[1][1].split("L")[:40])}
    assert below < {(x, y) for x, y in (p.split() for p in areas[2][1].split("L"))}, "each stands on the one before"
    assert "&lt;three&gt;" in drawn
    assert "80.0 %" in drawn
    assert "Effective number of sources" in drawn


def test_the_gap_is_of_the_last_quarter(tmp_path: Path) -> None:
    run = read_run(run_of(tmp_path / "run"))
    assert gaps_of(run, "one") == [0.25] * 10
    assert gaps_of(run, "two") == []


@pytest.mark.parametrize(("gap", "slow"), [(0.1, False), (-0.1, True)])
def test_a_twin_that_lags_is_told(tmp_path: Path, gap: float, slow: bool) -> None:
    said = " ".join(f.text for f in findings(read_run(run_of(tmp_path / "run", gap=gap))))
    assert ("learns too slowly" in said) == slow
    assert "Nearly all weight" not in said


def test_a_weight_that_is_all_is_told(tmp_path: Path) -> None:
    said = " ".join(f.text for f in findings(read_run(run_of(tmp_path / "run", last=0.99))))
    assert "Nearly all weight is on one source" in said


def test_a_run_without_weights_has_no_such_section(tmp_path: Path) -> None:
    folder = tmp_path / "plain"
    folder.mkdir()
    (folder / "metrics.jsonl").write_text('{"step": 1, "loss": 2.0}\n')
    assert weights_section(read_run(folder)) == []
    assert "Weights of the sources" not in page([read_run(folder)])

"""What `align-eval compare` prints and writes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from align.errors import UserError, near_path
from align_eval.analysis.comparison import Comparison, compare
from align_eval.analysis.evaluation import evaluation_of
from align_eval.analysis.gate import Gate, GateFailed, gate_of, judge, level_of, look
from align_eval.analysis.telling import of_comparison
from align_eval.analysis.writing import put, told_written
from align_eval.metrics_of_runs import compare_runs
from align_eval.results.reading import ready
from align_eval.statistics.resampling import USUAL


def run(
    before: str, after: str, evaluation: Path | None, name: str, gate: tuple[str | None, Path | None]
) -> Iterator[str]:
    """Lines as they come. GateFailed at the end where the gate is not met."""
    asked = None if gate[0] is None else gate_of(gate[0])  # an empty one is a mistake, not none
    if evaluation is None:
        for path in (Path(before), Path(after)):
            if not path.is_dir():
                cure = f"give two runs, or two models and their --evaluation FOLDER{near_path(path)}"
                raise UserError(f"{path}: no such folder; {cure}")
        yield from compare_runs(Path(before), Path(after))
        if asked:
            yield _ruled(asked, compare(before, after, settings=level_of(asked)), gate[1])
        return
    ready(evaluation)
    source = evaluation_of(evaluation)
    found = compare(before, after, source, judge=name)
    yield from of_comparison(found)
    told = (found.warnings, found.failures)
    yield told_written(put(evaluation, found.sections(), found.models, USUAL, told), found.sections())
    if asked:
        if asked.level != USUAL.level:
            found = compare(before, after, source, judge=name, settings=level_of(asked))
        yield _ruled(asked, found, gate[1])


def _ruled(gate: Gate, found: Comparison, record: Path | None) -> str:
    ruling = judge(gate, found) if record is None else look(gate, found, record)
    if not ruling.passed:
        raise GateFailed(ruling.told)
    return ruling.told

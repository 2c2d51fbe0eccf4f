"""What `align-eval checkpoints` does with its words, and what it says; and a gate on the newest checkpoint."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from align.errors import UserError, did_you_mean
from align.judges.base import Judge
from align.judges.named import Means
from align.judges.panel import Panel
from align.system.terminal import say
from align_eval.analysis.evaluation import GRADE
from align_eval.analysis.gate import Gate, GateFailed, gate_of, judge, level_of, look, looks
from align_eval.generation.answers import ending_of
from align_eval.generation.settings import Settings, budget_of
from align_eval.generation.settings import settings_of as decoding_of
from align_eval.judging.checkpoints import Contest, Standings, contest_of, standings, write_answers
from align_eval.judging.run import means_of
from align_eval.judging.settings import Judging, settings_of
from align_eval.judging.tell import Progress, foretell, judges_of, tell_judged
from align_eval.results.reading import ready
from align_eval.results.wording import told
from align_eval.running.dry import costs, tell_costs
from align_eval.running.tell import progress

DECODING = "decoding."  # before a key: it is of the answers


@dataclass(frozen=True, kw_only=True)
class Asked:
    """The words of the command."""

    words: Sequence[str] = ()
    judges: Sequence[str] = ()
    gate: str | None = None
    record: Path | None = None

    @property
    def prompts(self) -> str:
        """A task or a file; empty: what the run holds out. UserError where several are named."""
        named = [word for word in self.words if "=" not in word]
        if len(named) > 1:
            raise UserError(f"{' '.join(named)}: expected one task or file of prompts, and KEY=VALUE")
        return named[0] if named else ""

    @property
    def decoding(self) -> list[str]:
        return [word.removeprefix(DECODING) for word in self.words if word.startswith(DECODING)]

    @property
    def judging(self) -> list[str]:
        return [word for word in self.words if "=" in word and not word.startswith(DECODING)]


def run(path: Path, asked: Asked, *, dry_run: bool) -> None:
    """Stopped, RunError, Incomplete: not all could be had; GateFailed: the newest checkpoint does not meet the gate."""
    if not asked.judges:
        raise UserError("checkpoints: no judge is named; add --judge, such as --judge reward:FOLDER; for scores on a "
                        f"task: align-eval run TASK --checkpoints {path}")  # fmt: skip
    if asked.record is not None and asked.gate is None:
        raise UserError('checkpoints: --gate-sequence belongs to --gate, such as --gate "delta > 0 at 95%"')
    gate = None if asked.gate is None else gate_of(asked.gate)
    (given, details), settings = settings_of(asked.judging), decoding_of(asked.decoding)
    contest = contest_of(path, settings, asked.prompts, given.items)
    ready(contest.folder)
    judging, means = contest.judging(given), means_of(contest.folder, given, Progress())
    judges = judges_of(asked.judges, details, means)
    if gate is not None:
        _check(gate, judges, asked.record)
    for note in contest.notes:
        say(note)
    if dry_run:
        _foretell(contest, settings, judges, (judging, means))
        return
    for one in judges:
        one.identity()  # reads what the judge is made of: a file that is not there is told before answers are written
    ending_of(write_answers(contest, settings, progress)).tell(budget_of(settings).told)
    judged, ending = tell_judged(contest.folder, judges, judging, means)
    if ending.unasked or ending.silent:  # no point for a part of the prompts
        ending.tell(means.budget.told)
    found = standings(contest, judged)
    for line in _lines(found):
        say(line)
    ending.tell(means.budget.told)
    if gate is not None:
        for line in _ruled(gate, found, asked.record):
            say(line)


def _check(gate: Gate, judges: Sequence[Judge], record: Path | None) -> None:
    """Before anything is written. UserError for a number that nobody will make, and a record of another gate."""
    every = [one for judge_ in judges for one in (*(judge_.judges if isinstance(judge_, Panel) else ()), judge_)]
    pairwise = [one.name for one in every if one.pairwise]
    mark = "[{}]" if len(pairwise) > 1 else ""
    known = [f"{kind}{mark.format(name)}" for name in pairwise for kind in ("delta", "win_rate", "lc_win_rate")]
    known += [f"{GRADE}:{one.name}" for one in every if not one.pairwise]
    if len(every) == 1 and not pairwise:
        known = ["delta", *known]
    if gate.name not in known:
        near = did_you_mean(gate.name, known)
        raise UserError(f"gate {gate}: no number {gate.name!r}; there will be {', '.join(known)}.{near}")
    if record is not None:
        looks(record, gate)


def _foretell(contest: Contest, settings: Settings, judges: Sequence[Judge], how: tuple[Judging, Means]) -> None:
    """What is to be written; and what is to be asked, once all answers are there."""
    judging, means = how
    models = list(contest.models.values())
    tell_costs(contest.folder, models, [contest.batch], settings)
    if not any(one.answers for one in costs(contest.folder, models, [contest.batch], settings)):
        foretell(contest.folder, judges, judging, means)
        return
    for one in judges:
        each = (1 if judging.one_order else 2) * (len(contest.models) - 1) if one.pairwise else len(contest.models)
        count = len(contest.batch.items) * judging.repeats * each
        say(f"{one.name}: at most {count:,} questions on answers that are not there yet; tokens are told when they are")


def _lines(found: Standings) -> Iterator[str]:
    for point in found.points:
        yield f"{point.task}: step {point.step:,}: {point.metric} {told(point.estimate)}"
    yield f"{found.contest.folder}/results.json"
    yield f"{found.contest.run / 'report.html'}"


def _ruled(gate: Gate, found: Standings, record: Path | None) -> Iterator[str]:
    """The newest checkpoint decides; of a sequence every checkpoint is a look. GateFailed where it is not met."""
    compared = found.comparisons(level_of(gate))
    newest = list(compared)[-1]
    looked = [newest] if record is None else list(compared)
    rulings = {s: judge(gate, compared[s]) if record is None else look(gate, compared[s], record) for s in looked}
    for step in looked[:-1]:
        yield f"step {step:,}: {rulings[step].told}"
    told_ = f"step {newest:,}, the newest: {rulings[newest].told}"
    if not rulings[newest].passed:
        raise GateFailed(told_)
    yield told_

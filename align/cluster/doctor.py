"""What has become of a job: which rank on which node stopped where, and what to do, in plain words.

It reads what the ranks have left in `launch/attempt-NAME/` of the run folder, the job's log, and what Slurm says. All
of it may be missing; nothing is changed.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from align.cluster import slurm
from align.cluster.logs import logs_of, parts_of
from align.cluster.submission import jobs_of
from align.errors import AlignError, UserError
from align.runfolder.folder import RunFolder
from align.world.heartbeat import ANOTHER, FOLDER, Sign, read_beats

LATE = 4  # beats without a word, after which a rank is not merely slow to write
SHOWN = 8  # ranks or lines of a kind
SPOKEN = re.compile(r"align\b.*: |srun: error: |slurmstepd.*: error: |\w*Error: ")
FRAME = re.compile(r'  File "(.*)", line (\d+) in (.*)')
LIBRARY = re.compile(r"/site-packages/|/lib/python[\d.]+/|<frozen")
STATES = {  # of Slurm: what to do
    "PENDING": "it waits; Slurm's reason is beside it",
    "TIMEOUT": "the time limit came before the ranks had saved: raise --time or --warning, then submit again",
    "OUT_OF_MEMORY": "a node's memory was used up: lower training.max_tokens or take another --sharding",
    "NODE_FAIL": "a node is gone: sinfo -R says why; submit again, it goes on from the last checkpoint",
    "PREEMPTED": "another job was given the nodes; Slurm puts this one back by itself where it may",
    "CANCELLED": "somebody has ended it; submit again to go on from the last checkpoint",
    "FAILED": "see what the ranks say below",
}
REASONS = {
    "BeginTime": "it was put back and begins again about two minutes later",
    "Resources": "its nodes are in use",
    "Priority": "others come first",
    "Dependency": "it waits for another job",
    "DependencyNeverSatisfied": "the job that it waits for has failed: cancel it, and submit both again",
    "PartitionTimeLimit": "--time is more than the partition allows",
}


def examine(run: Path) -> Iterator[str]:
    """UserError for a folder that is no run's."""
    if not run.is_dir():
        raise UserError(f"{run}: no such folder; give a run's")
    runs = sorted(p for p in run.glob("seed-*") if p.is_dir()) or [run]
    if not any((one / FOLDER).is_dir() for one in (run, *runs)):
        raise UserError(f"{run}: has no {FOLDER}/; a job or a run of several processes makes it")
    yield from _job(run)
    for one in runs:
        if one != run:
            yield f"{one.name}:"
        yield from _ranks(one)
        yield from _ending(one)


# ---- Slurm and the log ----------------------------------------------------------------------------------------------


def _job(run: Path) -> Iterator[str]:
    try:
        number = jobs_of(run)[-1]["job"]
    except UserError:
        yield "no job: it was not submitted by `align launch slurm`"
        return
    try:
        found = slurm.states(number)
        if not found:
            yield f"job {number}: Slurm no longer knows it"
        for state in found:
            told = REASONS.get(state.reason) or STATES.get(state.state, "")
            yield f"{state.text}{': ' if told else ''}{told}"
    except AlignError as error:
        yield f"job {number}: Slurm cannot be asked here ({error})"
    for log in logs_of(run, number):
        part = parts_of(log)[-1]
        yield f"{log}, attempt {part.number or 1}:"
        yield from (f"  {line}" for line in [line for line in part.lines if SPOKEN.match(line)][-SHOWN:])


# ---- ranks ----------------------------------------------------------------------------------------------------------


def _ranks(run: Path) -> Iterator[str]:
    folders = sorted((run / FOLDER).glob("attempt-*"), key=lambda p: p.stat().st_mtime)
    if not folders:
        yield "no rank has begun to train: the reason stands in the log, or the job waits"
        return
    for folder in folders[:-1]:
        yield from _earlier(folder)
    beats = read_beats(folders[-1])
    yield f"{folders[-1].name}: {len(beats)} ranks have begun"
    yield from _stopped(folders[-1], beats)


def _earlier(folder: Path) -> Iterator[str]:
    beats = read_beats(folder)
    silent, ended = _silent(beats), [b for b in beats.values() if b.ended]
    yield from (f"{folder.name}: {_silence(beat)}" for beat in silent[:SHOWN])
    if not silent and ended:
        cause = min(ended, key=lambda beat: beat.ended.startswith(ANOTHER))  # what others met with is no cause
        yield f"{folder.name}: {_place(cause)}; ended: {cause.ended}"


def _stopped(folder: Path, beats: Mapping[int, Sign]) -> Iterator[str]:
    silent = _silent(beats)
    yield from (f"  {_silence(beat)}" for beat in silent[:SHOWN])
    for rank, beat in list(beats.items())[:SHOWN] if len(beats) <= SHOWN else _odd(beats):
        if beat in silent:
            continue
        if beat.ended == "finished":
            yield f"  rank {rank} on {beat.node}: step {beat.step}, finished at {_clock(beat.time)}"
            continue
        ended = f"; ended: {beat.ended}" if beat.ended else ""
        yield f"  {_place(beat)} since {_clock(beat.since)}{ended}"
        if frame := _frame(folder / f"stacks-{rank:05d}.txt"):
            yield f"    it stood at {frame} ({folder.name}/stacks-{rank:05d}.txt has all)"
    yield from _advice(silent, beats)


def _silent(beats: Mapping[int, Sign]) -> list[Sign]:
    """Ranks that have stopped without a word."""
    now = time.time()
    return [b for b in beats.values() if not b.ended and now - b.time > LATE * b.every]


def _silence(beat: Sign) -> str:
    return (
        f"{_place(beat)} when last heard of, {_clock(beat.time)}; then nothing: its process {beat.pid} was "
        "killed or stopped, or its node is gone"
    )


def _odd(beats: Mapping[int, Sign]) -> list[tuple[int, Sign]]:
    """Of many ranks those that stand where the fewest do."""
    where: dict[tuple[int, str], list[tuple[int, Sign]]] = {}
    for item in beats.items():
        where.setdefault((item[1].step, item[1].stage), []).append(item)
    return [item for group in sorted(where.values(), key=len) for item in group][:SHOWN]


def _place(beat: Sign) -> str:
    return f"rank {beat.rank} on {beat.node}: {f'step {beat.step}, ' * bool(beat.step)}{beat.stage}"


def _frame(stacks: Path) -> str:
    """The innermost line that is no library's in the main thread, which is the last one of a file."""
    if not stacks.is_file():
        return ""
    main = stacks.read_text(encoding="utf-8", errors="replace").split("\n\n")[-1]
    frames = [FRAME.match(line) for line in main.splitlines()]
    ours = [found for found in frames if found and ("/align/" in found[1] or not LIBRARY.search(found[1]))]
    return f"{ours[0][1].rpartition('/code/')[2]}, line {ours[0][2]}, {ours[0][3]}" if ours else ""


def _advice(silent: list[Sign], beats: Mapping[int, Sign]) -> Iterator[str]:
    ends = {beat.ended for beat in beats.values() if beat.ended}
    if silent and len(silent) == len(beats):
        yield "no rank gives a sign of life: if the job still runs, cancel it (align launch cancel) and submit it again"
    elif silent:
        nodes = ", ".join(sorted({beat.node for beat in silent}))
        yield f"look at {nodes}: dmesg (out of memory?), sinfo -R; the others ended or wait because of it"
    elif any("no rank has got on" in end for end in ends):
        yield "all lived and none got on: compare the stacks; one that is elsewhere than the others has held them up"
    elif ends == {"finished"}:
        yield "all ranks have finished"
    elif not ends and beats:
        yield "all ranks give signs of life"


def _ending(run: Path) -> Iterator[str]:
    folder = RunFolder(run)
    saved = sorted(p.name for p in folder.checkpoints.glob("step-*"))
    if folder.final.is_dir():
        yield f"the run has ended: {folder.final}"
    elif saved:
        yield f"last checkpoint: {saved[-1]}; go on with sbatch {run}/{FOLDER}/job.sh (a job that was put back does so)"
    else:
        yield "no checkpoint yet"


def _clock(seconds: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(seconds))

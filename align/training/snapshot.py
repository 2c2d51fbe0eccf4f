"""The state of a run, into a checkpoint's folder and back, bitwise, however it is sharded.

state-00000.pt        of each rank: its fragments of the parameters that training changes, and of their moments
NAME/                 the same for each further learner: a `critic` that is a model of its own, a `twin`
sources/state.pt      logits of the sources' weights, and their moments, where these are learned
NAME/weights-00000.pt of each rank: its piece of a copy that follows the policy, such as a `target`
moved-00000.pt        of each rank: what moves of weights remember, where a method has any
start-00000.pt        likewise: where the next extrapolation begins
random-00000.pt       the random generators of each rank
progress.json         counters, controllers, best evaluation
identity.json         all that its numbers depend on, and of which run it is
logs.json             how long the run's logs were, and their sums
experience.pt         what has been written and not been learned to its end
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from align.errors import Elsewhere
from align.runfolder import checkpoint
from align.runfolder.logs import Mark
from align.runfolder.state_files import load_state, random_state, save_state, seed_generators, set_random_state
from align.system.files import replace_file
from align.training.controllers import Remembered
from align.training.team import Team
from align.world.stages import doing

EXPERIENCE = "experience.pt"
RANDOM = "random"
IDENTITY = "identity.json"
LOGS = "logs.json"


@dataclass
class Progress:
    """What the loop remembers between steps, beside weights and moments."""

    step: int = 0  # optimiser steps done
    num_tokens: int = 0  # tokens trained on so far, prompts included
    num_prompts: int = 0  # prompts that completions were asked for so far
    best_step: int = -1  # of the best evaluation, -1 before the first
    best_value: float = 0.0
    bad_evaluations: int = 0  # in a row without improvement
    ended_early: bool = False
    owed: dict[str, float] = field(default_factory=dict)  # the last step's numbers, while its evaluation is to be made
    controllers: Remembered = field(default_factory=dict)  # of the experiences so far
    critic_steps: int = 0  # those in which the critic has learned alone
    value_losses: list[float] = field(default_factory=list)  # of the steps in which a critic may learn alone
    explained_variances: list[float] = field(default_factory=list)  # of the experiences that they learned from

    @property
    def told(self) -> int:
        """Steps of which all is told that there is to tell."""
        return self.step - bool(self.owed)


@dataclass(frozen=True)
class About:
    """What a checkpoint says of the run that it is of."""

    identity: Mapping[str, Any]
    logs: Mapping[str, Mark]


@doing("writing a checkpoint")
def save(
    root: Path, team: Team, progress: Progress, experience: Any = None, about: About | None = None,
    commits: Callable[[Callable[[], Path]], object] = lambda act: act(),
) -> Path:  # fmt: skip
    """Writes a checkpoint of `progress.step`; all ranks take part, the main one commits it.

    The commit needs none of them: `commits` is given it to make it, perhaps when this has returned.
    """
    world = team.world
    tmp = checkpoint.temporary(root, progress.step)
    with world.main_first():
        if world.main:
            checkpoint.begin(root, progress.step)
    failure: Exception | None = None
    try:
        with checkpoint.guarded(tmp):
            save_state(random_state(), tmp / f"{RANDOM}-{world.rank:05d}.pt")
            team.write(tmp)
            if world.main:
                replace_file(tmp / "progress.json", json.dumps(asdict(progress)))
                if about is not None:
                    replace_file(tmp / IDENTITY, json.dumps(about.identity, indent=1))
                    replace_file(tmp / LOGS, json.dumps(about.logs))
                if experience is not None:
                    save_state(experience, tmp / EXPERIENCE)
    except Exception as error:
        failure = error
    if world.any(failure is not None):
        raise failure or Elsewhere("another process could not save its part; the checkpoint before is intact")

    def commit() -> Path:
        with checkpoint.guarded(tmp):
            return checkpoint.commit(tmp, progress.step)

    with world.main_first():
        if world.main:
            commits(commit)
    return checkpoint.folder(root, progress.step)


def restore(path: Path, team: Team, seed: int = 0) -> Progress:
    """Puts the state of `path`, a verified checkpoint, into the learners and copies of every rank.

    Of another number of processes it has no generators for each: they begin anew, from `seed` and the step.
    """
    team.read(path)
    progress = Progress(**json.loads((path / "progress.json").read_text()))
    drawn = sorted(path.glob(f"{RANDOM}-*.pt"))
    if len(drawn) == team.world.size:
        set_random_state(load_state(drawn[team.world.rank]))
    else:
        seed_generators(seed + team.world.rank + (progress.step << 16))
    return progress


def identity_of(path: Path) -> dict[str, Any] | None:
    """None of a checkpoint that an older align wrote."""
    return json.loads((path / IDENTITY).read_text(encoding="utf-8")) if (path / IDENTITY).exists() else None


def logs_of(path: Path) -> dict[str, Mark]:
    """By file name; empty of a checkpoint that an older align wrote."""
    return json.loads((path / LOGS).read_text(encoding="utf-8")) if (path / LOGS).exists() else {}


def load_experience(path: Path) -> Any:
    """What `save` was given as `experience`; None where the checkpoint has none."""
    return load_state(path / EXPERIENCE) if (path / EXPERIENCE).exists() else None

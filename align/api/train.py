"""`align.train`: a recipe, and what Python gives in the place of its names, as a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from align.api.apart import apart
from align.api.given import Objects
from align.api.run import Run
from align.errors import Stopped, UserError
from align.monitors.watch import Watch
from align.recipe.load import Recipe, checked, name_of
from align.recipe.text import Written, find_recipe, lay_over, read
from align.rewards.given import given
from align.run import train as runs
from align.runfolder.folder import GIVEN, RunFolder
from align.system.files import remove
from align.system.terminal import say
from align.world.signals import stoppable

CALL = "align.train"  # as messages name what was said in a call
OnStep = Callable[[int, Mapping[str, float | int]], object]
TAKEN = "columns", "trusted", "weights_from"  # of the recipe's own rows, which other rows do not have


def train(
    recipe: str | Path | Mapping[str, Any], *, data: Any = None, model: Any = None, rewards: Any = None,
    on_step: OnStep | Watch | None = None, **sections: Any,
) -> Run:  # fmt: skip
    """Trains a recipe to its end and returns its run.

    `recipe`: a shipped recipe's name, a file, a run folder, or all of a recipe as nested dictionaries.
    `data`: what to train on, in the place of the recipe's rows: a list of dictionaries, a `datasets.Dataset`, or a name
    as in `data.train`. The recipe's `columns` and its files of held-out rows do not go with other rows and are left
    out; a dictionary is the section `data` instead, with rows under `train`, `validation`, `test`.
    `model`: a folder, a hub name, or a loaded transformers or peft model, which is not changed itself: what was trained
    is `run.model()`. A dictionary is the section `model`.
    `rewards`: functions, in the place of the recipe's: callables, names, or `{"name": ..., "weight": ...}` of either.
    `on_step(step, metrics)`: called after each optimiser step (1 is the first) with its line of metrics.jsonl; where it
    returns True that step is the last one.
    `sections`: keys that are put over the recipe's, a dictionary for each section: `method={"beta": 0.2},
    training={"max_steps": 20}`; None goes back to a key's default. Where no `training.output_dir` is said it is
    runs/NAME, or the first of runs/NAME-2, ... in which there is no run.

    Raises UserError for all mistakes together before anything is trained, RunError for a run that failed, Stopped where
    it was asked to stop (ctrl-C, SIGTERM): after its step, with all state saved. `align.Run(folder)` opens what there
    is; its `resume()` goes on. A second ctrl-C is a KeyboardInterrupt at once.
    """
    asked = _merged(recipe, data, model, rewards, sections)
    with apart():
        return carry_out(lambda: prepared(recipe, asked), on_step)


@dataclass(frozen=True)
class Prepared:
    """A run that can begin."""

    recipe: Recipe
    functions: Mapping[str, Callable[..., Any]]  # rewards that were given as objects
    resume: runs.Resume | None = None


def carry_out(prepare: Callable[[], Prepared], on_step: OnStep | Watch | None) -> Run:
    """From the look at what was asked for to the finished run; all of it can be stopped."""
    watch = on_step if isinstance(on_step, Watch) or on_step is None else EachStep(on_step)
    where = ""
    try:
        with stoppable() as stop:
            one = prepare()
            where = str(one.recipe.output_dir)
            with given(one.functions):
                runs.train(one.recipe, one.resume, None, stop, watch)
    except Stopped as error:
        raise Stopped(f"{error} (in Python: align.Run({where!r}).resume())" if where else str(error)) from None
    return Run(where)


class EachStep(Watch):
    """A function that looks on."""

    def __init__(self, function: OnStep):
        if not callable(function):
            raise UserError(f"{CALL}: on_step: found {type(function).__name__}; expected a function of (step, metrics)")
        self.function = function

    def step(self, step: int, row: Mapping[str, float | int]) -> bool:
        return self.function(step, row) is True


# ---- from a call to a recipe ----------------------------------------------------------------------------------------


def _merged(recipe: Any, data: Any, model: Any, rewards: Any, sections: Mapping[str, Any]) -> dict[str, Any]:
    """The call's short forms as sections."""
    found = dict(sections)
    if data is not None:
        found["data"] = dict(data) if isinstance(data, Mapping) else Rows(data)
    if model is not None:
        found["model"] = dict(model) if isinstance(model, Mapping) else {"model_name_or_path": model}
    if rewards is not None:
        if "functions" in (of_reward := dict(found.get("reward") or {})):
            raise UserError(f"{CALL}: rewards: conflicts with reward={{'functions': ...}}; keep one of them")
        each = list(rewards) if isinstance(rewards, list | tuple) else [rewards]
        found["reward"] = of_reward | {"functions": each}
    for name, value in found.items():
        if "." in name:
            section, _, key = name.partition(".")
            raise UserError(f"{CALL}: {name}: write {section}={{{key!r}: {value!r}}}")
    return found


@dataclass(frozen=True)
class Rows:
    """Other rows than the recipe's own."""

    train: Any


def prepared(
    recipe: str | Path | Mapping[str, Any], asked: Mapping[str, Any], resume: runs.Resume | None = None
) -> Prepared:  # fmt: skip
    """A recipe with sections over it, as a run that can begin. Mistakes with all that is wrong."""
    path, written = _written(recipe)
    folder = _folder_for(path, written, asked)
    if resume is None:
        RunFolder(folder).refuse_used()  # before anything that was given is kept in it
    objects, new = Objects(folder), not folder.exists()
    try:
        sections = {n: _instead(written, v) if isinstance(v, Rows) else v for n, v in asked.items()}
        lay_over(written, objects.sections(sections), CALL)
        if isinstance(recipe, Mapping):
            written.values = objects.sections(written.values)
        lay_over(written, {"training": {"output_dir": str(folder)}}, CALL)
        return _checked(written, path, objects, resume)
    except BaseException:
        if not RunFolder(folder).used:  # what was given is only kept for a run
            remove(folder if new and folder.exists() else folder / GIVEN)
        raise


def _checked(written: Written, path: Path, objects: Objects, resume: runs.Resume | None = None) -> Prepared:
    _refuse_timeout(written, objects)
    with given(objects.functions):
        return Prepared(checked(written, path), objects.functions, resume)


def _written(recipe: str | Path | Mapping[str, Any]) -> tuple[Path, Written]:
    if isinstance(recipe, Mapping):
        method = recipe.get("method")
        name = method.get("name") if isinstance(method, Mapping) else method
        values = {key: dict(v) if isinstance(v, Mapping) else v for key, v in recipe.items()}
        return Path(f"{name or 'run'}.yaml"), Written(CALL, values)
    path = find_recipe(str(recipe))
    return path, read(path)


def _folder_for(path: Path, written: Written, asked: Mapping[str, Any]) -> Path:
    """The folder that was asked for, or the first free one of the run's name."""
    for values in (asked, written.values):
        training = values.get("training")
        if isinstance(training, Mapping) and (named := training.get("output_dir")):
            return Path(named)
    name = str(asked.get("name") or name_of(written, path))
    number = 1
    while RunFolder(folder := Path("runs", name if number == 1 else f"{name}-{number}")).used:
        number += 1
    if number > 1:
        say(f"runs/{name} holds a run already: this one is {folder}")
    return folder


def _instead(written: Written, rows: Rows) -> dict[str, Any]:
    """The section `data` with other rows, without what belonged to the recipe's own."""
    own = written.get("data") or {}
    gone = {key: None for key in TAKEN if own.get(key)}
    gone |= {key: None for key in ("validation", "test") if isinstance(own.get(key), str)}
    if gone:
        say(f"data: with other rows the recipe's own {', '.join(f'data.{key}' for key in gone)} is left out")
    return {**gone, "train": rows.train}


def _refuse_timeout(written: Written, objects: Objects) -> None:
    if objects.functions and written.get("reward.timeout"):
        raise UserError(
            f"{CALL}: reward.timeout: its worker processes import functions, and {', '.join(objects.functions)} "
            "cannot be: put it into a file and import it from there, or leave the timeout out"
        )


def resume(
    folder: Path, rewards: Sequence[Any] | None, on_step: OnStep | Watch | None, allow: Sequence[str],
    sections: Mapping[str, Any],
) -> Run:  # fmt: skip
    """Goes on with a run from its last checkpoint; see `Run.resume`."""

    def prepare() -> Prepared:
        path = find_recipe(str(folder))
        written, objects = read(path), Objects(folder)
        asked = _merged(None, None, None, rewards, sections)
        lay_over(written, objects.sections(asked), "align.Run.resume")
        return _checked(written, path, objects, runs.Resume(allow=tuple(allow)))

    with apart():
        return carry_out(prepare, on_step)

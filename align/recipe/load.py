"""A recipe: WHAT to train, as one frozen value that is checked before anything is loaded.

`load` reads RECIPE (a file, a run folder, or the name of a shipped recipe) and `key=value` overrides, and either
returns a `Recipe` or raises `Mistakes` with all that is wrong. Ten things alone are resolved: an empty
`training.output_dir` is runs/NAME; TRL's two names for the batch size are multiplied out; a method with a scalar head
shows no completions (and is refused when asked to); evaluations are compared by the method's usual metric, and that
says whether the larger is the better; the learning rate and the number of minibatches are the method's usual ones;
dr_grpo's `constant_length` is the most tokens that a completion may have; weights of sources are read from the run that
has learned them; a run without `final/`, named as a model, is its newest good checkpoint.
"""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from align.data.settings import DataSection
from align.errors import Mistakes, UserError, did_you_mean
from align.methods.acronyms import ACRONYMS
from align.methods.base import Method, find_method, method_names
from align.methods.lookup import not_annotated
from align.models.settings import ModelSection
from align.recipe.combinations import check_averages, check_combinations, check_masters, check_rounds, writes_nothing
from align.recipe.defaults import weighted, with_followed, with_minibatches, with_rate
from align.recipe.look_at_data import check_data
from align.recipe.look_at_models import check_context, check_models
from align.recipe.metric import METRIC, check_metric, declared, direction
from align.recipe.notes import model_notes
from align.recipe.online import check_online, is_online, notes_of
from align.recipe.past import settled
from align.recipe.roles import check_levels, check_roles, moving
from align.recipe.text import Written, find_recipe, override, read
from align.recipe.types import build, is_text, names, show
from align.rewards.settings import RewardSection
from align.rollout.settings import RolloutSection
from align.system.yaml12 import to_yaml
from align.training.settings import LoggingSection, OptimSection, TrainingSection
from align.translate.hints import LOSS_TYPES, SECTIONS, foreign, translate_key, translate_knob

OWNERS: dict[str, type[Any]] = {
    "model": ModelSection,
    "data": DataSection,
    "optim": OptimSection,
    "training": TrainingSection,
    "logging": LoggingSection,
}

ONLINE: dict[str, type[Any]] = {"rollout": RolloutSection, "reward": RewardSection}  # of methods whose policy writes


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """All sections, checked; equal recipes train the same weights into the same folder."""

    name: str
    file: Path = field(compare=False)
    method_name: str
    method: Method[Any]
    model: ModelSection
    data: DataSection
    optim: OptimSection
    training: TrainingSection
    logging: LoggingSection
    rollout: RolloutSection = field(default_factory=RolloutSection)
    reward: RewardSection = field(default_factory=RewardSection)
    notes: tuple[str, ...] = field(default=(), compare=False)  # what was translated or settled, to be said aloud

    @property
    def output_dir(self) -> Path:
        return Path(self.training.output_dir)

    def to_dict(self) -> dict[str, Any]:
        """Resolved and complete; reading it again gives an equal recipe."""
        sections = {name: dataclasses.asdict(getattr(self, name)) for name in owners(type(self.method))}
        if self.training.max_steps:
            del sections["training"]["num_train_epochs"]  # beside max_steps it means nothing, and is refused
        knobs = {name: getattr(self.method, name) for name in names(type(self.method))}
        return {"name": self.name, "method": {"name": self.method_name, **knobs}, **sections}

    def to_yaml(self) -> str:
        return to_yaml(_plain(self.to_dict()))


def load_recipe(recipe: str | Path, overrides: Sequence[str] = (), world_size: int | None = None) -> Recipe:
    """Reads, overrides and checks a recipe; raises `Mistakes` with everything that is wrong with it.

    `world_size` multiplies TRL's per-device batch size; by default it is the one the launcher set (WORLD_SIZE).
    """
    path = find_recipe(str(recipe))
    written = read(path)
    ours = "method" in written.values or any(isinstance(written.values.get(s), dict) for s in (*OWNERS, *ONLINE))
    if not ours and (told := foreign(written.values, str(recipe))):
        raise UserError(f"{written.label}: {told}")
    override(written, overrides, functools.partial(is_text, OWNERS | ONLINE))
    return checked(written, path, world_size)


def name_of(written: Written, path: Path) -> str:
    """What a recipe is called: as it says, or as its file; a run folder's recipe as the folder."""
    return str(written.get("name") or (path.parent.name if path.name == "recipe.yaml" else path.stem))


def checked(written: Written, path: Path, world_size: int | None = None) -> Recipe:
    """The recipe that was written; raises `Mistakes` with everything that is wrong with it."""
    cls, method = _method(written)
    method = moving(written, method)
    _known_sections(written, cls)
    sections: dict[str, Any] = {
        name: build(written, name, owner, values := _section(written, name), _homes(values, name))
        for name, owner in owners(cls).items()
    }
    before: tuple[str, ...] = ()
    if sections["model"] is not None:
        sections["model"], before = settled(written, sections["model"])
    check_combinations(written, cls, sections)
    check_masters(written, method, sections)
    check_averages(written, method, sections)
    if cls is not None and sections["model"] is not None:
        check_roles(written, cls, method, sections["model"])
    if cls is not None:
        check_rounds(written, cls, method, sections)
    if cls is not None and is_online(cls):
        check_online(written, cls, method, sections)
    notes_of_data = _data(written, cls, method, sections) if sections["data"] is not None else ()
    if sections["model"] is not None:
        check_models(written, sections["model"])
        new = sections["rollout"].max_completion_length if sections.get("rollout") else 0
        beyond = check_context(written, sections["model"], sections["data"].max_length, new) if sections["data"] else []
    else:
        beyond = []
    if method is not None and isinstance(sections["training"], TrainingSection):
        sections["training"] = _with_metric(written, method, sections)
    if written.mistakes or method is None:
        raise Mistakes(dict.fromkeys(written.mistakes))
    name = name_of(written, path)
    world = world_size or int(os.environ.get("WORLD_SIZE", "1"))
    training, notes = _resolve(sections["training"], name, world)
    sections["training"] = training
    if writes_nothing(method.needs()) and not written.has("logging.num_completions"):
        sections["logging"] = dataclasses.replace(sections["logging"], num_completions=0)
    said = (*before, *notes_of_data, *notes_of(sections.get("rollout")), *with_rate(written, method, sections))
    said += model_notes(sections)
    said += with_minibatches(written, method, sections)
    method, apart = with_followed(written, method, sections)
    spelt = str(written.get("method.name"))
    return Recipe(
        name=name, file=path, method_name=spelt, method=method, notes=(*notes, *beyond, *said, *apart),
        **sections,
    )  # fmt: skip


def completed(saved: Mapping[str, Any], cls: type[Method[Any]]) -> dict[str, Any]:
    """A resolved recipe of an older align, with the keys that have come since at their defaults: what they say there is
    what was done."""
    defaults = {name: dataclasses.asdict(owner()) for name, owner in owners(cls).items()}
    defaults["method"] = {f.name: f.default for f in dataclasses.fields(cls) if f.name in names(cls)}
    defaults["training"].pop("num_train_epochs")  # left out beside max_steps
    return {**saved, **{name: values | saved[name] for name, values in defaults.items() if name in saved}}


def _data(
    written: Written, cls: type[Method[Any]] | None, method: Method[Any] | None, sections: dict[str, Any]
) -> tuple[str, ...]:
    """Looks at the section, which gets weights that another run has learned; returns what is to be said."""
    if cls is not None:
        check_levels(written, cls, method, sections["data"])
    sections["data"], notes = weighted(written, sections["data"])
    check_data(written, sections["data"], cls.needs() if cls else None)
    return notes


# ---- parts ----------------------------------------------------------------------------------------------------------


def _section(written: Written, name: str) -> Any:
    return values if (values := written.get(name)) is not None else {}


def _homes(values: Any, section: str = "") -> dict[str, str]:
    """A hint for every key that is at home in another section."""
    keys = values if isinstance(values, dict) else {}
    return {
        k: f" {k}: here `{s}.{k}`."
        for k in keys
        for s, o in (OWNERS | ONLINE).items()
        if s != section and k in names(o)
    }


def owners(cls: type[Method[Any]] | None) -> dict[str, type[Any]]:
    """The sections of a recipe with this method."""
    return OWNERS | ONLINE if is_online(cls) else OWNERS


def _known_sections(written: Written, cls: type[Method[Any]] | None) -> None:
    known = ("name", "method", *owners(cls))
    for key, value in written.values.items():
        if key == "name" and not isinstance(value, str):
            written.wrong(key, f"found {show(value)}; expected text")
        elif key == "name" and not _is_name(value):
            inside = "a name for a folder in runs/, without .. and not beginning with /, ~ or a dot"
            written.wrong(key, f"found {show(value)}; expected {inside}")
        if key in known:
            continue
        if key in ONLINE:
            if cls is not None:
                written.wrong(key, f"{cls.name} learns from rows that are there before; remove the section")
            continue
        homes = [f"{s}.{key}" for s, owner in (OWNERS | ONLINE).items() if key in names(owner)]
        hint = f" {key}: here `{homes[0]}`." if homes else _other_name(key, known)
        written.wrong(key, f"no such section; a recipe has {', '.join(known)}.{hint}")


def _other_name(key: str, known: Sequence[str]) -> str:
    return did_you_mean(SECTIONS[key], known) if key in SECTIONS else translate_key(key) or did_you_mean(key, known)


def _is_name(name: str) -> bool:
    """Whether runs/NAME lies in runs/ whatever else is true."""
    parts = name.split("/")
    return name.isprintable() and "\\" not in name and not any(p == "" or p[0] in ".~" for p in parts)


def _method(written: Written) -> tuple[type[Method[Any]] | None, Method[Any] | None]:
    values = _section(written, "method")
    if isinstance(values, str):
        written.wrong("method", ACRONYMS.get(values) or f"found {show(values)}; write `method: {{name: {values}}}`")
        return None, None
    spelt = values.get("name") if isinstance(values, dict) else None
    if not isinstance(spelt, str):
        written.wrong("method.name", f"missing; there are {', '.join(method_names())}")
        return None, None
    try:
        cls = find_method(LOSS_TYPES.get(spelt, spelt))
    except UserError as error:
        written.wrong("method.name", str(error))
        return None, None
    if spelt != cls.name and ":" not in spelt:
        written.wrong("method.name", f"{spelt}: here `{cls.name}`")
    knobs = {k: v for k, v in values.items() if k != "name"}
    hints = {k: hint for k in knobs if (hint := translate_knob(k, names(cls), method_names()))}
    hints |= {k: hint for k in knobs if (hint := not_annotated(cls, k))}
    if isinstance(loss := knobs.get("loss_type"), str) and LOSS_TYPES.get(loss, loss) in method_names():
        hints["loss_type"] = f" loss_type {loss}: here `method.name: {LOSS_TYPES.get(loss, loss)}`."
    return cls, build(written, "method", cls, knobs, {**_homes(knobs), **hints, "": cls.name})


def _resolve(training: TrainingSection, name: str, world_size: int) -> tuple[TrainingSection, tuple[str, ...]]:
    notes: tuple[str, ...] = ()
    if per_device := training.per_device_train_batch_size:
        steps = max(1, training.gradient_accumulation_steps)
        size = per_device * steps * world_size
        notes = (
            f"per_device_train_batch_size {per_device} x gradient_accumulation_steps {steps} x world size "
            f"{world_size}: here `training.batch_size: {size}`",
        )
        training = dataclasses.replace(
            training, batch_size=size, per_device_train_batch_size=0, gradient_accumulation_steps=0
        )
    return dataclasses.replace(training, output_dir=training.output_dir or f"runs/{name}"), notes


def _with_metric(written: Written, method: Method[Any], sections: Mapping[str, Any]) -> TrainingSection:
    """By which metric evaluations are compared, and which way; empty where a method from outside has yet to say it."""
    training: TrainingSection = sections["training"]
    before = len(written.mistakes)
    if written.has(METRIC):
        check_metric(written, method, sections)
    metric, larger = training.metric_for_best_model, training.greater_is_better
    metric = metric if written.has(METRIC) else method.compared_by
    if larger is None and len(written.mistakes) == before and (found := declared(method, metric)) is not None:
        larger = direction(written, metric, found)
    return dataclasses.replace(training, metric_for_best_model=metric, greater_is_better=larger)


def _plain(value: Any) -> Any:
    """Tuples as lists, so that YAML and JSON hold what reading gives back."""
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, list | tuple) else value

"""`align plan`: what a recipe would take on these GPUs, for each sharding, and which to choose."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from align.cli.options import options_of
from align.errors import Mistakes, UserError
from align.models.sources import read_json
from align.plan.advice import GAPS, OVERHEAD, Outlook, Place, changes, cheapest, least, outlooks, together
from align.plan.peak import Memory
from align.plan.sharding import SHARDINGS
from align.plan.speed import CARRIED, COMPUTED, DEVICES, READ, Machine
from align.plan.work import Asked, Model, Work, work_of
from align.recipe.load import Recipe, load_recipe
from align.recipe.look_at_models import model_folder
from align.recipe.sharding import mistakes
from align.recipe.text import find_recipe, read

SMALLEST = 10e9  # bytes up to which a table is in MB
POSITIVE = ("gpus", "memory", "gpus_per_node", "network")
ANY_TOKENIZER = "asset:stories260k"  # nothing is read with it: the vocabulary is the config's


@dataclass(frozen=True, kw_only=True)
class Gpus:
    """The options of the command."""

    gpus: int = 1  # a rank for each
    memory: float = 80  # GB of one
    gpus_per_node: int = 8
    tokens: int = 0  # of a usual sequence; 0: the most that the recipe allows
    device: str = "h100"
    network: float = 400  # GB a second from a node to the others
    model_config: str = ""  # config.json of a model that need not be here

    def __post_init__(self):
        found = [f"--{name.replace('_', '-')}: {getattr(self, name):g} must be more than 0" for name in POSITIVE
                 if getattr(self, name) <= 0]  # fmt: skip
        if self.device not in DEVICES:
            found.append(f"--device: {self.device} is none of {', '.join(DEVICES)}")
        if self.tokens < 0:
            found.append(f"--tokens: {self.tokens} must be 0 (the most that the recipe allows) or more")
        if not found and self.gpus > self.gpus_per_node and self.gpus % self.gpus_per_node:
            found.append(f"--gpus: {self.gpus} are no whole number of nodes of {self.gpus_per_node} (--gpus-per-node)")
        if not found and self.place().room <= 0:
            found.append(f"--memory: {self.memory:g} GB are less than the {OVERHEAD / 1e9:g} that a GPU needs itself")
        if found:
            raise Mistakes(found)

    def place(self) -> Place:
        of_node = min(self.gpus, self.gpus_per_node)
        machine = Machine(device=DEVICES[self.device], of_node=of_node, network=self.network * 1e9)
        return Place(Asked(ranks=self.gpus, length=self.tokens), self.memory * 1e9, machine)


def run(recipe: str, words: Sequence[str], console: Console) -> None:
    gpus, overrides = options_of(words, Gpus)
    say(recipe_of(recipe, overrides, gpus), gpus.place(), console)


def recipe_of(recipe: str, overrides: Sequence[str], gpus: Gpus) -> Recipe:
    """The recipe, checked; its model may be a config alone. UserError, Mistakes."""
    words = list(overrides)
    config = Path(gpus.model_config) if gpus.model_config else _config_alone(recipe, words)
    if config is not None:
        words += [
            f"model.config={json.dumps(read_json(config))}", "model.model_name_or_path=null",
            f"model.tokenizer_name_or_path={ANY_TOKENIZER}",
        ]  # fmt: skip
    return load_recipe(recipe, words, world_size=gpus.gpus)


def _config_alone(recipe: str, overrides: Sequence[str]) -> Path | None:
    """config.json of a model folder that has no weights."""
    name = read(find_recipe(recipe)).get("model.model_name_or_path")
    for word in overrides:
        key, _, value = word.partition("=")
        name = value if key == "model.model_name_or_path" else name
    folder = model_folder(name) if isinstance(name, str) and name else None
    if folder is None or any(folder.glob("*.safetensors")) or not (folder / "config.json").is_file():
        return None
    return folder / "config.json"


def say(recipe: Recipe, place: Place, console: Console) -> None:
    work = work_of(recipe, place.asked)
    if work is None:
        raise UserError(
            f"model.model_name_or_path: {recipe.model.model_name_or_path} is not here, so its size is not known; fetch "
            "it (align check --all), or give its config: --model-config FILE"
        )
    if place.asked.length > work.length:
        most = f"the {work.length} that the recipe allows a sequence"
        raise UserError(f"--tokens: {place.asked.length} is more than {most}")
    for line in lines(recipe, work, place):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    found = outlooks(recipe, work, place)
    console.print(forecast(found, place))
    for line in advice(recipe, work, place, found):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def lines(recipe: Recipe, work: Work, place: Place) -> Iterator[str]:
    models = [work.policy, *([work.critic] if work.critic else []), *work.frozen]
    for model in models:
        yield f"{model.words}: {_told(model)}"
    written = work.written
    kind = "completions" if written else "sequences"
    yield (
        f"a step: {work.batch * work.members} {kind} of {work.length} tokens"
        f"{'' if place.asked.length else ' (the most that the recipe allows; --tokens for a usual one)'}; on each of "
        f"{work.ranks} GPUs {work.micro_batches} micro-batches of {work.micro_tokens} tokens"
    )
    if written:
        where = f"{written.rows} at once on each GPU" if written.here else "by a server, which is not counted here"
        yield f"an experience: {written.sequences} completions, learned from in {written.steps} steps; written {where}"
    yield (
        f"assumed: {OVERHEAD / 1e9:g} GB and {GAPS:.0%} of a GPU for CUDA and gaps; {COMPUTED:.0%} of its FLOPs, "
        f"{READ:.0%} of its memory's bandwidth, {CARRIED:.0%} of the links'; nothing is done at the same time"
    )
    for name in SHARDINGS if work.ranks > 1 else ():
        yield from (f"{name} is left out: {why}" for why in mistakes(recipe, name))


def _told(model: Model) -> str:
    shape = model.shape
    learned = f", {model.learned:,} of them an adapter's that learns" if model.adapter and model.learns else ""
    return (
        f"{model.weights:,} weights of {model.width} bytes{learned}; {shape.layers} layers of width {shape.hidden}; "
        f"{shape.vocabulary:,} tokens"
    )


# ---- the table ------------------------------------------------------------------------------------------------------


def forecast(found: Sequence[Outlook], place: Place) -> Table:
    """The table of memory, and below it the time of a step."""
    shown = table({one.sharding.name: one.memory for one in found}, "one GPU at its most")
    if any(one.memory.away for one in found):
        shown.add_row("main memory of a node (GB)", *(_number(_main_memory(one, place)) for one in found))
    shown.add_row(f"fits {place.room / 1e9:.1f} GB", *(_yes(one.memory.peak <= place.room) for one in found))
    shown.add_section()
    for row in ("computing", "writing", "exchanging", "seconds"):
        words = "a step" if row == "seconds" else row
        shown.add_row(f"{words} (seconds)", *(_number(getattr(one.step, row)) for one in found))
    return shown


def table(columns: Mapping[str, Memory], title: str) -> Table:
    """A part for each line; parts that do not stand at the same time are not added."""
    unit, name = (1e9, "GB") if max(one.peak for one in columns.values()) > SMALLEST else (1e6, "MB")
    shown = Table(title=f"{title} ({name})", title_justify="left")
    shown.add_column("")
    for column in columns:
        shown.add_column(column, justify="right", max_width=16)
    for part in dict.fromkeys(part for one in columns.values() for part in one.parts):
        shown.add_row(part, *(_number(one.parts.get(part, 0.0) / unit) for one in columns.values()))
    shown.add_section()
    shown.add_row("at the same time", *(_number(one.peak / unit) for one in columns.values()))
    shown.add_row("in", *(one.phase for one in columns.values()))
    return shown


def _yes(fits: bool) -> str:
    return "yes" if fits else "no"


def _number(value: float) -> str:
    if not value:
        return ""
    return f"{value:,.1f}" if value >= 1 else f"{value:.2g}"


def advice(recipe: Recipe, work: Work, place: Place, found: Sequence[Outlook]) -> Iterator[str]:
    if best := cheapest(list(found), place.room):
        yield f"take {best.sharding.options}: the shortest step of those that fit, {_number(best.step.seconds)} s"
        return
    yield f"nothing fits {place.room / 1e9:.1f} GB. What each of these would bring, alone:"
    wanted = list(changes(recipe, work))
    for change in wanted:
        after = least(*change.made(recipe, place.asked), place)
        yield f"  {change.words} ({change.cost}): {_fit(after, place)}"
    taken, after = together(recipe, place, wanted)
    yield f"Together: {' '.join(change.words for change in taken)}: {_fit(after, place)}"


def _fit(one: Outlook, place: Place) -> str:
    word = "fits" if one.memory.peak <= place.room else "at its least"
    beside = f", beside {_main_memory(one, place):,.0f} GB of each node's main memory" if one.memory.away else ""
    return f"{word} with {one.sharding.name}, {one.memory.peak / 1e9:.1f} GB in {one.memory.phase}{beside}"


def _main_memory(one: Outlook, place: Place) -> float:
    """GB, of all ranks of a node."""
    return one.memory.away * place.machine.of_node / 1e9

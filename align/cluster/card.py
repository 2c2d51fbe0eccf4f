"""What a rank says of itself and of its node before anything is loaded, and what rank 0 finds when it compares."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from align.cluster.attempt import RUN, Attempt, Rank
from align.runfolder.environment import versions
from align.world.here import ATTEMPT

SECTIONS = ("model", "data", "rollout", "reward")  # of a recipe; paths in the others are the run's own
SLOW = 10.0  # seconds in which a file that was just written must be seen elsewhere, and an ended process be gone
PAUSE = 0.2


@dataclass(frozen=True, kw_only=True)
class Card:
    """Plain values."""

    rank: int
    node: str
    size: int
    local: int
    of_node: int
    gpus: int  # that it sees
    token: str  # as it reads it in the run folder; empty: it does not
    versions: Mapping[str, str]
    paths: Mapping[str, Any] = field(default_factory=dict)  # key of the recipe -> what is there, as far as sizes tell
    stale: Sequence[str] = ()  # processes of an earlier attempt on its node

    def told(self) -> dict[str, Any]:
        return asdict(self)


def card_of(attempt: Attempt, rank: Rank, recipe: Mapping[str, Any], token: Path) -> Card:
    """This process's. The first rank of a node looks at what is common to the node."""
    first = rank.local == 0
    return Card(
        rank=rank.number, node=rank.node, size=rank.size, local=rank.local, of_node=rank.of_node,
        gpus=torch.cuda.device_count() if attempt.gpus else 0, token=_read(token), versions=versions(),
        paths=dict(_paths(recipe)) if first else {}, stale=_stale(attempt) if first else (),
    )  # fmt: skip


# ---- what it looks at -----------------------------------------------------------------------------------------------


def _read(token: Path) -> str:
    """A file system may show elsewhere only after seconds what was written on one node."""
    end = time.monotonic() + SLOW
    while True:
        try:
            return token.read_text(encoding="utf-8")
        except OSError:
            if time.monotonic() > end:
                return ""
            time.sleep(PAUSE)


def _paths(recipe: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """What stands where the recipe names a file or a folder."""
    for section in SECTIONS:
        for key, text in _texts(recipe.get(section, {}), section):
            if "\0" not in text and len(text) < 1000 and os.path.exists(text):
                yield key, _seen(Path(text))


def _texts(value: Any, key: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, str) and value:
        yield key, value
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _texts(inner, f"{key}.{name}")
    elif isinstance(value, list | tuple):
        for number, inner in enumerate(value):
            yield from _texts(inner, f"{key}.{number}")


def _seen(path: Path) -> list[Any] | str:
    """Path, files and bytes, of a folder's own files; why it cannot be read, where that is so."""
    try:
        files = [path] if path.is_file() else sorted(p for p in path.iterdir() if p.is_file())
        for file in files:
            with open(file, "rb") as opened:
                opened.read(1)
        return [str(path), len(files), sum(file.stat().st_size for file in files)]
    except OSError as error:
        return f"{error.filename or path} cannot be read: {error.strerror or error}"


def _stale(attempt: Attempt) -> list[str]:
    """Processes of another attempt of this run on this node, once they have had time to end."""
    end = time.monotonic() + SLOW
    while (found := list(_others(attempt))) and time.monotonic() < end:
        time.sleep(PAUSE)
    return found


def _others(attempt: Attempt) -> Iterator[str]:
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "environ").read_bytes().decode(errors="replace").split("\0")
        except OSError:  # has ended, or is another user's
            continue
        named = {name: value for name, _, value in (word.partition("=") for word in words)}
        other = named.get(ATTEMPT, attempt.name)
        if named.get(RUN) == str(attempt.run) and other != attempt.name and "RANK" in named:
            yield f"process {folder.name} of attempt {other}"


# ---- what rank 0 finds ----------------------------------------------------------------------------------------------


def compare(attempt: Attempt, token: str, cards: Sequence[Card]) -> list[str]:
    """Everything that is wrong, by node where it is a node's."""
    first = cards[0]
    found = dict.fromkeys(finding for card in cards for finding in _alone(attempt, token, card))
    for card in cards[1:]:
        found |= dict.fromkeys(_beside(first, card))
    return list(found)


def _alone(attempt: Attempt, token: str, card: Card) -> Iterator[str]:
    name = f"rank {card.rank} on {card.node}"
    if card.size != attempt.num_ranks:
        yield f"{name}: world size {card.size}, and {attempt.num_ranks} ranks were asked for; see job.sh"
    if card.token != token:
        yield f"node {card.node}: the run folder {attempt.run} is not shared: what rank 0 writes there is not seen"
    if attempt.gpus and card.local >= card.gpus:
        yield f"{name}: sees {card.gpus} GPUs, and would use number {card.local} of {attempt.gpus} (counted from 0)"
    for path in card.paths.items():
        if isinstance(path[1], str):
            yield f"node {card.node}: {path[0]}: {path[1]}"
    yield from (f"node {card.node}: {process} of this run is still alive; end it" for process in card.stale)


def _beside(first: Card, card: Card) -> Iterator[str]:
    for name in sorted({*first.versions, *card.versions}):
        here, there = first.versions.get(name, "not installed"), card.versions.get(name, "not installed")
        if here != there:
            yield f"node {card.node}: {name} is {there}, on {first.node} (rank 0) it is {here}"
    if card.local:
        return
    for key in sorted({*first.paths, *card.paths}):
        here, there = first.paths.get(key), card.paths.get(key)
        if here != there and not isinstance(there, str):
            yield f"node {card.node}: {key}: {_contents(there)}, on {first.node} (rank 0) {_contents(here)}"


def _contents(seen: Any) -> str:
    return f"{seen[0]} has {seen[1]} files, {seen[2]} bytes" if isinstance(seen, list) else "is not there"

"""A draft as text: the recipe with where each line comes from, the launch line, and the account of all keys."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from align.system.yaml12 import to_yaml
from align.translate.draft import Account, Draft, Fate

SECTIONS = ("name", "method", "model", "data", "rollout", "reward", "optim", "training", "logging")
WIDTH = 40  # where comments stand


def recipe_text(draft: Draft, source: str) -> str:
    """The recipe. Its head names what it was made of, and what is not in it."""
    words = draft.words
    head = [f"# {source}: {words.project}'s, for {words.trainer}; defaults are those of {words.version}."]
    head += [f"# not offered: {a.key}: {_one_line(a)}" for a in lost(draft)]
    lines = [line for section in SECTIONS for line in _section(draft, section)]
    return "\n".join([*head, *lines]) + "\n"


def lost(draft: Draft) -> list[Account]:
    """What the original asks for, or does by itself, that the recipe does not do."""
    return [a for a in draft.accounts.values() if a.fate is Fate.NOT_OFFERED]


def _section(draft: Draft, section: str) -> Iterator[str]:
    if section in draft.recipe:
        yield _line("", section, draft.recipe[section], draft.comments.get(section, ""))
        return
    keys = {k: v for k, v in draft.recipe.items() if k.startswith(f"{section}.")}
    if not keys:
        return
    yield f"{section}:"
    inner = sorted(keys, key=lambda k: k.count("."))  # a section in a section comes after the plain keys
    opened = ""
    for key in inner:
        *path, name = key.split(".")[1:]
        if path and path[0] != opened:
            opened = path[0]
            yield f"  {opened}:"
        yield _line("    " if path else "  ", name, draft.recipe[key], draft.comments.get(key, ""))


def _line(indent: str, name: str, value: Any, comment: str) -> str:
    """`key: value  # where it comes from`; what takes several lines stands below its comment."""
    text = to_yaml({name: value}).rstrip("\n")
    said = f"# {comment}" if comment else ""
    if "\n" in text:
        first, *rest = text.split("\n")
        return "\n".join(f"{indent}{line}" for line in (f"{first}  {said}".rstrip(), *rest))
    return f"{indent}{text}".ljust(WIDTH) + f"  {said}" if said else f"{indent}{text}"


def _one_line(account: Account) -> str:
    return f"{' '.join(account.words.split())}"


def launch_lines(draft: Draft, recipe: str) -> list[str]:
    """How it is started, and what is done after it."""
    launch = draft.launch
    sharding = f" --sharding {launch.sharding or 'ddp'}"
    if (launch.processes <= 1 and not launch.sharding) or launch.sharding == "one_gpu":
        line = f"align train {recipe}"
    elif launch.nodes > 1 and launch.processes:
        each = launch.processes // launch.nodes
        line = f"align launch slurm {recipe} --nodes {launch.nodes} --gpus-per-node {each}{sharding}"
    else:
        line = f"align launch local {recipe}{f' --processes {launch.processes}' if launch.processes else ''}{sharding}"
    return [line, *launch.after]


def account_lines(draft: Draft) -> Iterator[str]:
    """Every key of the original, by what became of it; what is not offered comes last, where it is seen."""
    for fate in Fate:
        found = [a for a in draft.accounts.values() if a.fate is fate]
        if found:
            yield f"{fate.value} ({len(found)}):"
        for account in found:
            by_itself = "" if account.given else f" ({draft.words.project}'s default)"
            arrow = " ->" if fate is Fate.HERE else ":"
            yield f"  {account.key}{by_itself}{arrow} {account.words}"

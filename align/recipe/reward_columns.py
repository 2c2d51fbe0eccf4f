"""Whether the data have the columns that rewards and hints are read from, as far as their first rows tell.

Data sets on the hub and saved folders are looked at when the run begins.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Mapping

from align.data.hints import COLUMN
from align.data.reading.sources import iterate, resolve
from align.data.settings import DataSection, DataSource
from align.errors import UserError
from align.needs import Needs
from align.recipe.look_at_data import named_sources
from align.recipe.text import Written
from align.rewards.columns import Finding, misfit, misfits

RENAMED = {"tools", "chat_template_kwargs"}  # that rewards see under this name, whatever it is in the data


def check_columns(written: Written, data: DataSection, needs: Needs, rewards: Mapping[str, object]) -> None:
    """`rewards`: the functions by the dotted keys that name them."""
    findings: dict[str, Finding] = {key: functools.partial(misfit, function) for key, function in rewards.items()}
    told: set[str] = set()
    for key, source in named_sources(data):
        hinted = {key: _hints} if key.startswith("data.train") and needs.batch.hinted else {}
        renamed = RENAMED & {*data.columns, *source.columns}
        for place, text in _misfits(findings | hinted, source, renamed).items():
            if place not in told:  # the next source lacks it, too
                written.wrong(place, text)
            told.add(place)


def _misfits(findings: Mapping[str, Finding], source: DataSource, renamed: Collection[str]) -> dict[str, str]:
    """Nothing where the source cannot be read: that is told elsewhere."""
    try:
        path = resolve(source.source)
        if path is None or path.is_dir():
            return {}
        rows = ([*row, *renamed] for _, row in iterate(source.source, source.split))
        return misfits(findings, rows, source.source)
    except (UserError, OSError):
        return {}


def _hints(columns: Collection[str], whose: str) -> str:
    finding = f"{whose} has no column {COLUMN}, which the method tells where completions fail"
    wanted = f"a list of texts, from the least hint to the most. There are {', '.join(dict.fromkeys(columns))}"
    return "" if COLUMN in columns else f"{finding}: {wanted}"

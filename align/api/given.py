"""Objects of Python as what a recipe can name: rows become files, models folders, functions names.

All is kept in `given/` of the run folder under the sum of its content: so the folder is complete and its run can be
gone on with, several processes write the same, and rows that are other ones have another name.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils.hub import PushToHubMixin

from align.data.settings import DataSource
from align.errors import UserError
from align.models.sources import quiet, resolve
from align.models.tokenizer import read_tokenizer
from align.recipe.types import names
from align.rewards.given import name_for
from align.runfolder.folder import GIVEN
from align.system.files import inner_folder, new_folder, put_file, remove, replacing
from align.system.sums import digest_of, sha256_of

ROWS = ("train", "validation", "test", "trusted")  # keys of the section `data` that may be rows
ACCEPTED = (
    "a list of rows (dictionaries; of a DataFrame: frame.to_dict('records')), a datasets.Dataset, or what data.train "
    "may name"
)


@dataclass
class Objects:
    """What was given as an object; `plain` puts it into the run folder and returns its name there."""

    folder: Path  # of the run
    functions: dict[str, Callable[..., Any]] = field(default_factory=dict)  # by the names that they are found under
    tokenizer: PreTrainedTokenizerBase | None = None  # kept beside each model, whose folder is then whole

    @property
    def home(self) -> Path:
        return self.folder / GIVEN

    def sections(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Sections of a recipe, with plain values alone. UserError naming the key of what cannot be one."""
        model = values.get("model")
        if isinstance(model, Mapping) and any(isinstance(v, PushToHubMixin) for v in model.values()):
            self.tokenizer = _tokenizer_of(model)
        return {name: self.plain(name, value) for name, value in values.items()}

    def plain(self, key: str, value: Any) -> Any:
        """A value as YAML can hold it. `key` is where it stands in the recipe."""
        if key in [f"data.{name}" for name in ROWS] and _is_rows(value):
            return self._rows(key, value)
        if isinstance(value, PushToHubMixin):  # models, adapters, tokenizers
            return self._saved(key, value)
        if isinstance(value, Mapping):
            return {str(k): self.plain(f"{key}.{k}", v) for k, v in value.items()}
        if isinstance(value, list | tuple):
            return [self.plain(f"{key}.{i}", v) for i, v in enumerate(value)]
        if isinstance(value, datasets.Dataset):
            return self._rows(key, value)
        if isinstance(value, os.PathLike):
            return os.fspath(value)
        if isinstance(value, np.generic):
            return value.item()
        if value is None or isinstance(value, bool | int | float | str):
            return value
        if callable(value) and key.startswith("reward.functions"):
            return self._function(value)
        accepted = f"; accepted: {ACCEPTED}" if key.startswith("data.") else ""
        raise UserError(f"align.train: {key}: found {type(value).__name__}, which no recipe can hold{accepted}")

    def _function(self, function: Callable[..., Any]) -> str:
        name, found = name_for(function, self.home, self.functions)
        if found is not None:
            self.functions[name.rpartition(":")[2]] = found
        return name

    def _rows(self, key: str, rows: Any) -> str:
        stem = key.rpartition(".")[2]
        if isinstance(rows, datasets.Dataset):
            return self._kept(stem, ".parquet", lambda path: _write_dataset(rows, path))
        lines = [_line(f"align.train: {key}: row {number}", row) for number, row in enumerate(rows, start=1)]
        return self._kept(stem, ".jsonl", lambda path: _write_lines(lines, path))

    def _kept(self, stem: str, ending: str, write: Callable[[Path], None]) -> str:
        """Written aside by each process for itself, and put under the sum of what was written."""
        aside = inner_folder(self.home) / f".{stem}-{os.getpid()}{ending}"
        write(aside)
        path = self.home / f"{stem}-{sha256_of(aside)[:16]}{ending}"
        put_file(aside, path)
        return str(path)

    def _saved(self, key: str, thing: Any) -> str:
        """A folder as transformers (or peft) saves it."""
        kind = "tokenizer" if isinstance(thing, PreTrainedTokenizerBase) else "model"
        aside = new_folder(self.home / f".{kind}-{os.getpid()}")
        try:
            with quiet():
                thing.save_pretrained(aside)
                if kind == "model" and self.tokenizer is not None:
                    self.tokenizer.save_pretrained(aside)
            (aside / "README.md").unlink(missing_ok=True)  # peft's empty model card
            sums = {p.relative_to(aside).as_posix(): sha256_of(p) for p in aside.rglob("*") if p.is_file()}
            path = self.home / f"{kind}-{digest_of(sums)[:16]}"
            with suppress(OSError):  # it is there already, of the same content
                aside.rename(path)
        except (OSError, ValueError, RuntimeError) as error:
            raise UserError(f"align.train: {key}: this {type(thing).__name__} cannot be saved: {error}") from error
        finally:
            remove(aside)
        return str(path)


def _tokenizer_of(model: Mapping[str, Any]) -> PreTrainedTokenizerBase:
    """The tokenizer of a section `model` in which something is an object. UserError where nothing names it."""
    named = model.get("tokenizer_name_or_path") or model.get("model_name_or_path")
    if isinstance(named, PreTrainedTokenizerBase):
        return named
    if isinstance(named, PushToHubMixin):  # a model knows what it was loaded by; of an adapter, its base does
        inner = named if isinstance(named, PreTrainedModel) else named.get_base_model()  # type: ignore[attr-defined]
        named = str(getattr(inner, "name_or_path", "") or "")
    if not named:
        raise UserError(
            "align.train: model: does not know the folder that it was loaded from, and so not its tokenizer; give "
            "both: model={'model_name_or_path': model, 'tokenizer_name_or_path': tokenizer}"
        )
    return read_tokenizer(resolve(os.fspath(named)))


def _is_rows(value: Any) -> bool:
    """A data set, or a list that is no mixture of sources."""
    if not isinstance(value, list | tuple):
        return isinstance(value, datasets.Dataset)
    known = names(DataSource)
    sources = [isinstance(v, Mapping) and "source" in v and v.keys() <= {*known} for v in value]
    return not (sources and all(sources))


def _line(place: str, row: Any) -> str:
    if not isinstance(row, Mapping):
        raise UserError(f"{place}: found {type(row).__name__}; a row is a dictionary with named columns")
    try:
        return json.dumps(row, ensure_ascii=False, allow_nan=False, default=_number) + "\n"
    except (TypeError, ValueError) as error:
        raise UserError(f"{place}: cannot be written as JSON: {error}") from None


def _number(value: Any) -> Any:
    if isinstance(value, np.generic) and not math.isnan(value.item()):
        return value.item()
    raise TypeError(f"found {type(value).__name__}; a column holds text, numbers, lists and dictionaries")


def _write_lines(lines: Sequence[str], path: Path) -> None:
    with replacing(path) as out:
        out.writelines(line.encode(errors="backslashreplace") for line in lines)


def _write_dataset(rows: datasets.Dataset, path: Path) -> None:
    if not len(rows):
        raise UserError("align.train: data: the data set is empty")
    shown = datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        rows.to_parquet(path)
    finally:
        if not shown:
            datasets.enable_progress_bars()

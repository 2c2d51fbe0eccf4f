"""Where rows come from: one data set, or several put together."""

from __future__ import annotations

from typing import Any

from align.translate.draft import Draft

FILES = ("json", "csv", "parquet", "text")  # builders of datasets, whose rows are in files


def name_of(name: Any, config: Any = None, split: Any = None, revision: Any = None) -> str:
    """A hub's data set as a recipe names it: `name@revision:config[split]`."""
    name = f"{name}@{revision}" if revision else name
    config = config[0] if isinstance(config, list) and config else config
    where = f":{config}" if config and config not in ("default", []) else ""
    return f"{name}{where}" + (f"[{split}]" if split not in (None, "train") else "")


def sources(draft: Draft) -> None:
    mixture, mixer = draft.get("dataset_mixture"), draft.get("dataset_mixer")
    several = draft.get("datasets")
    if isinstance(mixture, dict) and isinstance(mixture.get("datasets"), list):
        _mixture(draft, mixture["datasets"], "dataset_mixture")
        _size_of(draft, mixture)
    elif isinstance(mixer, dict):
        _mixer(draft, mixer)
    elif isinstance(several, list) and several:
        _mixture(draft, several, "datasets")
    elif name := draft.get("dataset_name"):
        config = draft.get("dataset_config") or draft.get("dataset_configs")
        split = draft.get("dataset_train_split")
        of = ("dataset_name", "dataset_config", "dataset_configs", "dataset_train_split")
        draft.put("data.train", name_of(name, config, split), *of)


def _size_of(draft: Draft, mixture: dict[str, Any]) -> None:
    """What handbook holds out of a mixture stands inside it."""
    if (size := mixture.get("test_split_size")) is not None:
        draft.assume("test_split_size", size)
    draft.seen.add("test_split_size")


def _mixture(draft: Draft, parts: list[Any], word: str) -> None:
    made = [_source(draft, part, word) for part in parts if isinstance(part, dict)]
    weights = {one.get("weight", 1.0) for one in made}
    if len(weights) > 1 or (weights - {1.0} and word == "dataset_mixture"):
        why = "a weight takes a part of a data set's rows; here it is how often they are drawn, in an epoch of all rows"
        draft.refuse(word, why)
    together(draft, made, word)


def together(draft: Draft, made: list[dict[str, Any]], *words: str) -> None:
    """Several sources as one: each comes as often as it has rows."""
    if len(made) == 1:
        draft.put("data.train", made[0] if "columns" in made[0] else made[0]["source"], *words)
        if "columns" in made[0]:
            draft.recipe["data.train"] = [made[0]]
        return
    draft.put("data.train", made, *words)
    draft.put("data.mixture", "rows", *words, note="all rows of all of them, put together")


def _source(draft: Draft, part: dict[str, Any], word: str) -> dict[str, Any]:
    name, files = part.get("id") or part.get("path"), part.get("data_files")
    if name in FILES and isinstance(files, str):
        name = files
    elif files is not None or part.get("data_dir") is not None:
        draft.refuse(word, f"{name}: data_files and data_dir: name each file as a source of its own")
    weight = part.get("weight", part.get("fraction"))
    made: dict[str, Any] = {"source": name_of(name, part.get("config") or part.get("name"), part.get("split"))}
    return made if weight in (None, 1, 1.0) else made | {"weight": float(weight)}


def _mixer(draft: Draft, mixer: dict[str, Any]) -> None:
    """alignment-handbook's older form: names with shares of their rows, and the same splits of all."""
    splits = [s for s in draft.get("dataset_splits", ["train", "test"])]
    configs = draft.get("dataset_configs") or [None] * len(mixer)
    odd = len(configs) != len(mixer)
    configs = [None] * len(mixer) if odd else configs
    train = [s for s in splits if "train" in str(s)]
    made = [
        {"source": name_of(name, config, split)}
        for (name, _), config in zip(mixer.items(), configs, strict=True)
        for split in train
    ]
    if any(float(part) != 1 for part in mixer.values()):
        draft.refuse("dataset_mixer", "a share takes a part of a data set's rows; here all rows are taken")
    together(draft, made, "dataset_mixer", "dataset_splits", "dataset_configs")
    if odd:
        draft.refuse("dataset_configs", f"not one for each of the {len(mixer)} data sets; null is one without")
    tests = [s for s in splits if "test" in str(s)]
    if tests and len(mixer) == 1:
        draft.put("data.validation", name_of(next(iter(mixer)), configs, tests[0]), "dataset_splits")
    elif tests:
        draft.refuse("dataset_splits", "several test splits: validation is one source, or a share of the prompts")

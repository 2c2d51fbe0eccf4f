"""From the recipe's section `data` to stores of token groups, split, checked, counted and cached.

The cache is keyed by everything that the tokens depend on: the sources' contents, the section (without the weights of a
mixture), the tokenizer with its template, and this package's code. Two processes that prepare the same thing write
aside and rename; the second keeps what the first has made. What is taken from the cache is held against the sums that
were written with it, and made again where it differs.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from align.batches import RowKind
from align.data.fill import Feed, Fill, SplitName, Writers
from align.data.mixture import Mixture
from align.data.reading import sources
from align.data.settings import DataSection, DataSource
from align.data.store import ABOUT as STORE
from align.data.store import Store, StoreWriter
from align.data.text.script import PrefixBroken
from align.data.text.template import PLAINLY, choose_template, is_plain, with_defaults
from align.data.text.trl_adapter import training_template
from align.errors import UserError
from align.system.files import sweep, write_json
from align.system.sums import sealed, sha256_of, unsealed

ABOUT = "splits.json"  # of a prepared folder: written last
SPLITS: tuple[SplitName, ...] = ("train", "validation", "test", "trusted")
CODE = (  # files
    "fill", "prepare", "store", "tally",
    "reading/calls", "reading/columns", "reading/messages", "reading/notation", "reading/pairs", "reading/rows",
    "reading/sources", "reading/texts",
    "text/script", "text/special", "text/template", "text/tokens", "text/trl_adapter",
)  # fmt: skip
Tick = Callable[[int], None]  # told how many rows have been read, now and then


@dataclass(frozen=True, kw_only=True)
class Splits:
    """Prepared data. `validation` and `test` may be empty, and `trusted` is there where the section names it."""

    train: Store
    validation: Store
    test: Store
    weights: tuple[float, ...]  # of the sources of `train`
    chat_template: str  # what messages were rendered with, or were to be by the recipe; empty where rows are plain text
    notes: tuple[str, ...]  # what the user should be told of the rows, one line each
    fingerprint: str
    names: tuple[str, ...] = ()  # of the sources of `train`, each another one
    trusted: Store | None = None
    remade: tuple[str, ...] = ()  # what was found damaged in the cache; of this preparation and not of the rows

    @property
    def stores(self) -> dict[str, Store]:
        own = {"train": self.train, "validation": self.validation, "test": self.test}
        return own if self.trusted is None else own | {"trusted": self.trusted}

    def mixture(self, seed: int) -> Mixture:
        """The order of the rows of `train`; sources of which no row is left have no part."""
        sizes = tuple(self.train.counts.sources.values())
        kept = [(s, w) for s, w in zip(sizes, self.weights, strict=True) if s]
        return Mixture(sizes=tuple(s for s, _ in kept), weights=tuple(w for _, w in kept), seed=seed)


def default_cache() -> Path:
    """`$ALIGN_CACHE`, else ~/.cache/align/data."""
    return Path(os.environ.get("ALIGN_CACHE") or Path.home() / ".cache" / "align" / "data")


def prepare(
    section: DataSection, kind: RowKind, numbers: tuple[str, ...], tokenizer: Any, cache: Path, tick: Tick | None = None
) -> Splits:
    """The splits of `section`, from the cache where they are there; what is damaged there is made again, and a note.

    All of the cache is read once: for one process of a machine, the others `reopen`.
    `numbers` are the row columns that the method reads. Raises UserError for what is wrong with sources, columns, rows
    or lengths; `tick` is told the number of rows read, 0 at the beginning, unless they are in the cache.
    """
    feeds = plan(section)
    own = choose_template(tokenizer, section.chat_template, section.chat_template_kwargs)
    key = _fingerprint(section, feeds, kind, numbers, tokenizer, own)
    folder = cache / key[:40]
    damage = _damage(folder, key, section, feeds)
    if damage or not folder.exists():
        fill = Fill(section=section, kind=kind, numbers=numbers, tokenizer=tokenizer, tick=tick or (lambda rows: None))
        _build(folder, fill, feeds, own, remake=bool(damage))
    found = _open(folder, key, section, feeds)
    remade = (f"data cache {folder}: was damaged, and has been made again: {damage}",) if damage else ()
    return dataclasses.replace(found, remade=remade)


def reopen(section: DataSection, cache: Path, key: str) -> Splits:
    """What another process of this machine has just prepared, by its fingerprint."""
    return _open(cache / key[:40], key, section, plan(section))


def plan(section: DataSection) -> list[Feed]:
    """The sources in the order in which they are read, and the split that each feeds. UserError for what is missing."""
    train = [DataSource(source=section.train)] if isinstance(section.train, str) else list(section.train)
    if not train or any(not s.source for s in train):
        raise UserError(f"data.train: no source; accepted: {sources.ACCEPTED}")
    for s in train:
        if not s.weight > 0:
            raise UserError(f"data.train: {s.source}: weight must be above 0, found {s.weight}; or leave it out")
    if len({(s.source, s.split, *sorted(s.columns.items())) for s in train}) < len(train):
        raise UserError("data.train: a source is listed twice; give it a larger weight or other columns instead")
    shares = [v for v in (section.validation, section.test) if not isinstance(v, str)]
    if any(not 0 <= s < 1 for s in shares) or sum(shares) >= 1:
        raise UserError(f"data.validation, data.test: shares must be at least 0, together below 1; found {shares}")
    read = [(s.source, s.split) for s in train]
    feeds = [Feed("train", s, again=read.count((s.source, s.split)) > 1) for s in train]
    names_of(feeds)
    for name in ("validation", "test"):
        if isinstance(value := getattr(section, name), str) and value:
            feeds.append(Feed(name, DataSource(source=value, split=sources.split_for(value, name))))
    if section.trusted:
        feeds.append(Feed("trusted", DataSource(source=section.trusted)))
    return feeds


def splits_of(section: DataSection) -> tuple[SplitName, ...]:
    return SPLITS if section.trusted else SPLITS[:-1]


def names_of(feeds: Sequence[Feed]) -> tuple[str, ...]:
    """What the sources of `train` are called: by the recipe, or as the file, with its place if two have that name."""
    train = [feed for feed in feeds if feed.split == "train"]
    short = [feed.source.name or feed.name.rsplit("/", 1)[-1].split(".", 1)[0] for feed in train]
    names = tuple(n if short.count(n) == 1 or j.source.name else j.name for n, j in zip(short, train, strict=True))
    if twice := next((name for name in names if names.count(name) > 1), ""):
        raise UserError(f"data.train: two sources are called {twice}; give them other names")
    return names


def _fingerprint(
    section: DataSection, feeds: list[Feed], kind: RowKind, numbers: tuple[str, ...], tokenizer: Any, template: str
) -> str:
    digest = hashlib.sha256()

    def add(name: str, value: Any) -> None:
        digest.update(json.dumps([name, value], sort_keys=True, default=str).encode() + b"\n")

    for feed in feeds:
        contents = sources.fingerprint(feed.source.source, feed.source.split)
        add("source", [feed.split, feed.source.source, feed.source.split, feed.source.columns, contents])
    add("section", {k: v for k, v in asdict(section).items() if k not in ("train", "chat_template", "mixture")})
    add("rows", [kind, numbers])
    add("template", template)
    add("tokenizer", [type(tokenizer).__name__, tokenizer.special_tokens_map, tokenizer("")["input_ids"]])
    backend = getattr(tokenizer, "backend_tokenizer", None)
    add("vocabulary", tokenizer.get_vocab() if backend is None else backend.to_str())
    for name in CODE:
        digest.update((Path(__file__).parent / f"{name}.py").read_bytes())
    return digest.hexdigest()


def _damage(folder: Path, key: str, section: DataSection, feeds: list[Feed]) -> str:
    """What is not as it was written; empty where all is, and where nothing is there."""
    if not folder.exists():
        return ""
    try:
        found = _open(folder, key, section, feeds)
        differing = [d for store in found.stores.values() for d in store.damage()]
    except (OSError, ValueError, KeyError, TypeError) as error:
        return str(error)
    return ", ".join(f"{file}: not the content that was written" for file in differing)


def _open(folder: Path, key: str, section: DataSection, feeds: list[Feed]) -> Splits:
    """OSError, ValueError, KeyError or TypeError where nothing whole is there."""
    about = unsealed(json.loads((folder / ABOUT).read_text(encoding="utf-8")))
    for name, known in about["stores"].items():
        if sha256_of(file := folder / name / STORE) != known:
            raise ValueError(f"{file}: not the content that was written")
    stores = {name: Store(folder / name, f"{key}-{name}") for name in splits_of(section)}
    asked = bool(section.chat_template)
    weights = tuple(feed.source.weight for feed in feeds if feed.split == "train")
    if section.mixture == "rows":
        counts = stores["train"].counts.sources.values()
        weights = tuple(weight * count for weight, count in zip(weights, counts, strict=True))
    template, notes = about["chat_template"], tuple(about["notes"])
    if not asked and not any(store.counts.templated for store in stores.values()):
        template = ""  # the trained model has never seen it
    if is_plain(template):
        notes = (*notes, PLAINLY)
    return Splits(
        train=stores["train"], validation=stores["validation"], test=stores["test"], trusted=stores.get("trusted"),
        weights=weights, names=names_of(feeds),
        chat_template=template, notes=notes, fingerprint=key,
    )  # fmt: skip


def _build(folder: Path, fill: Fill, feeds: list[Feed], template: str, *, remake: bool) -> None:
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        sweep(folder.parent, ".????????-*")
        scratch = Path(tempfile.mkdtemp(prefix=f".{folder.name[:8]}-", dir=folder.parent))
    except OSError as error:
        raise UserError(f"data cache {folder.parent}: {error}; set ALIGN_CACHE to another folder") from None
    try:
        notes, template = _with_template(scratch / "splits", fill, feeds, template)
        stores = {name: sha256_of(scratch / "splits" / name / STORE) for name in splits_of(fill.section)}
        about = sealed({"chat_template": template, "notes": notes, "stores": stores})
        write_json(scratch / "splits" / ABOUT, about)
        _move(scratch, folder, remake=remake)
    except OSError as error:
        raise UserError(f"data cache {folder.parent}: {error}; make room, or set ALIGN_CACHE") from None
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _move(scratch: Path, folder: Path, *, remake: bool) -> None:
    """Into place; what another process put there meanwhile stays, what was found damaged goes."""
    if remake:
        with suppress(FileNotFoundError):  # another process has found it, too
            folder.rename(scratch / "damaged")
    try:
        (scratch / "splits").rename(folder)
    except OSError:
        if not (folder / ABOUT).exists():
            raise


def _with_template(folder: Path, fill: Fill, feeds: list[Feed], template: str) -> tuple[list[str], str]:
    """Fills with the template; where it rewrites earlier turns, once more with trl's replacement of it."""
    try:
        return _fill(folder, fill, feeds, template), template
    except PrefixBroken as error:
        shutil.rmtree(folder)
        other = None if fill.section.chat_template else training_template(fill.tokenizer)
        if other is None:
            raise _rewrites(error, "") from None
        other = with_defaults(other, fill.section.chat_template_kwargs, fill.tokenizer)
        try:
            notes = _fill(folder, fill, feeds, other)
        except PrefixBroken as again:
            raise _rewrites(again, ", even as trl's training template") from None
        said = "the tokenizer's chat template rewrites earlier turns; trl's training template is used instead"
        return [*notes, said], other


def _rewrites(error: PrefixBroken, which: str) -> UserError:
    finding, place = error.args
    return UserError(
        f"{place}: the chat template{which} rewrites earlier turns when later ones follow: {finding}; "
        "name one that does not with data.chat_template, or set data.loss_on: completion"
    )


def _fill(folder: Path, fill: Fill, feeds: list[Feed], template: str) -> list[str]:
    names = splits_of(fill.section)
    writers: Writers = {name: StoreWriter(folder / name, fill.kind, fill.numbers) for name in names}
    try:
        notes = fill.run(feeds, writers, template)
        _count_shared(writers, folder)
    finally:
        for writer in writers.values():
            writer.close()
    if writers["train"].counts.rows == 0:
        raise UserError("data.train: no row is left for training; " + "; ".join(notes or ["the data set is empty"]))
    shared = {name: writer.counts.shared_prompts for name, writer in writers.items()}
    return notes + [f"{name}: {n} rows have a prompt that train has too" for name, n in shared.items() if n]


def _count_shared(writers: Writers, folder: Path) -> None:
    def keys(name: SplitName) -> np.ndarray:
        writers[name].files["index.bin"].flush()
        return np.fromfile(folder / name / "index.bin", dtype=writers[name].dtype)["key"]

    train = keys("train")
    for name in tuple(writers)[1:]:
        writers[name].counts.shared_prompts = int(np.isin(keys(name), train).sum())

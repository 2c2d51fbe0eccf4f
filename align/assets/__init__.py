"""What ships with the package: a small pretrained model and small harmless data, each with its licence.

A recipe says `asset:NAME`, where NAME is a path below this folder: `asset:stories260k` is a model folder,
`asset:polite_pairs/train.jsonl` a file of rows. Read the README of a folder for where it is from.
"""

from __future__ import annotations

from pathlib import Path

from align.errors import UserError, did_you_mean

ROOT = Path(__file__).parent
PREFIX = "asset:"


def asset_names() -> list[str]:
    """Everything that can stand after `asset:`: model folders and files of rows."""
    models = [p.parent for p in ROOT.glob("*/config.json")]
    rows = [p for pattern in ("*/*.jsonl", "*/*.jsonl.gz") for p in ROOT.glob(pattern)]
    return sorted(p.relative_to(ROOT).as_posix() for p in (*models, *rows))


def is_asset(source: str) -> bool:
    return source.startswith(PREFIX)


def asset(source: str) -> Path:
    """The folder or file of `asset:NAME`, or a `UserError` with all the names there are."""
    name = source.removeprefix(PREFIX)
    if name not in asset_names():
        known = [PREFIX + n for n in asset_names()]
        raise UserError(f"{source}: no such asset; there are {', '.join(known)}.{did_you_mean(source, known)}")
    return ROOT / name

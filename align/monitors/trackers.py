"""Trackers outside the run folder, only when `logging.report_to` names them; nothing is imported otherwise."""

from __future__ import annotations

import importlib
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from align.errors import Mistakes, did_you_mean
from align.system.files import replace_file

QUIET = {  # what the libraries that we start send home unless told otherwise
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "HF_HUB_DISABLE_UPDATE_CHECK": "1",
    "HF_UPDATE_DOWNLOAD_COUNTS": "false",
    "VLLM_NO_USAGE_STATS": "1",
    "GRADIO_ANALYTICS_ENABLED": "False",
    "RAY_USAGE_STATS_ENABLED": "0",
    "WANDB_ERROR_REPORTING": "false",
    "WANDB_DISABLE_GIT": "true",
    "WANDB_DISABLE_CODE": "true",
}


def no_telemetry() -> None:
    """Before hub clients are imported: they read these once. What the user has set stays."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)


@runtime_checkable
class Tracker(Protocol):
    def log(self, step: int, numbers: Mapping[str, float | int]) -> None: ...

    def close(self) -> None: ...


class TensorBoard:
    """Event files under `tensorboard/` of the run folder."""

    module = "torch.utils.tensorboard"

    def __init__(self, folder: Path, config: Mapping[str, Any], done: int):
        writer = importlib.import_module(self.module).SummaryWriter
        self._writer = writer(str(folder / "tensorboard"), purge_step=done + 1 if done else None)
        self._writer.add_text("recipe", "\n".join(f"    {k}: {v}" for k, v in config.items()))

    def log(self, step: int, numbers: Mapping[str, float | int]) -> None:
        for key, value in numbers.items():
            self._writer.add_scalar(key, value, step)

    def close(self) -> None:
        self._writer.close()


class Wandb:
    """Weights & Biases; WANDB_MODE=offline, WANDB_PROJECT and its like are respected."""

    module = "wandb"

    def __init__(self, folder: Path, config: Mapping[str, Any], done: int):
        wandb = importlib.import_module(self.module)
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "align"),
            name=folder.name,
            id=_identity(folder, "wandb"),
            resume="allow",
            dir=str(folder),
            config=dict(config),
        )

    def log(self, step: int, numbers: Mapping[str, float | int]) -> None:
        self._run.log(dict(numbers), step=step)

    def close(self) -> None:
        self._run.finish()


class Trackio:
    """trackio, whose data base is local unless its own settings name a space."""

    module = "trackio"

    def __init__(self, folder: Path, config: Mapping[str, Any], done: int):
        self._trackio = importlib.import_module(self.module)
        self._trackio.init(
            project=os.environ.get("TRACKIO_PROJECT", "align"),
            name=f"{folder.name}-{_identity(folder, 'trackio')}",
            config=dict(config),
            resume="allow",
        )

    def log(self, step: int, numbers: Mapping[str, float | int]) -> None:
        self._trackio.log(dict(numbers), step=step)

    def close(self) -> None:
        self._trackio.finish()


KNOWN: dict[str, type[TensorBoard] | type[Wandb] | type[Trackio]] = {
    "tensorboard": TensorBoard,
    "wandb": Wandb,
    "trackio": Trackio,
}


def check_trackers(names: Sequence[str]) -> list[str]:
    """What is wrong with `logging.report_to`: unknown names, packages that are not installed."""
    found = []
    for name in names:
        if name not in KNOWN:
            known = f"there are {', '.join(KNOWN)}.{did_you_mean(name, KNOWN)}"
            found.append(f"logging.report_to: {name}: no such tracker; {known}")
            continue
        try:
            importlib.import_module(KNOWN[name].module)
        except ImportError as error:
            found.append(f"logging.report_to: {name}: {error}; install it with: pip install 'align-hub[tracking]'")
    return found


def open_trackers(names: Sequence[str], folder: Path, config: Mapping[str, Any], *, done: int = 0) -> list[Tracker]:
    """One tracker per name, for the run in `folder`, of which `done` steps are behind. Raises Mistakes."""
    if mistakes := check_trackers(names):
        raise Mistakes(mistakes)
    return [KNOWN[name](folder, config, done) for name in names]


def _identity(folder: Path, name: str) -> str:
    """The same id for the same run folder after a resume, another for every other run."""
    path = folder / f".{name}-id"
    known = path.read_bytes() if path.exists() else b""
    if not re.fullmatch(rb"[0-9a-f]{12}", known):
        replace_file(path, (known := os.urandom(6).hex().encode()).decode())
    return known.decode()

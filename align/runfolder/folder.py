"""The run folder: what stands where, who may write into it, and whether a resume is the same run.

Only the main process takes it; the others know its paths.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from align.errors import Mistakes, RunError, UserError
from align.runfolder.environment import differences
from align.runfolder.lock import LOCK, Lock
from align.system.files import odd_in, replace_file, stranger

BEFORE = "test_before.json"  # the test split's metrics before the first step
PATIENCE, ONLOOKER = "patience", "onlooker"  # who ended a run early: its recipe, or a function or callback from Python
OTHERS = ("logs", "launch")  # what a scheduler may have put here before the run begins
GIVEN = "given"  # rows, models and code that were given as objects, from Python
APART = (*OTHERS, "wandb")  # in them nothing of ours is written, and links are usual
SHOWN = 8  # names that an error lists
FREE = (  # recipe keys that change neither what is learned nor in which order
    "name",
    "logging",
    "training.output_dir",
    "training.save_steps",
    "training.save_total_limit",
    *(f"rollout.vllm_{key}" for key in ("server_base_url", "command", "arguments", "host")),
    *(f"rollout.vllm_{key}" for key in ("server_timeout", "request_timeout", "retries")),
)
NAMES = ("format", "run")  # of an identity: they say whose it is, not what it is
NEWER = ("run", "inputs", "arithmetic")  # what identities of the first format have not
CONTENTS = {  # what is compared by fingerprint
    "data": " (a hash of the rows, and of the tokenizer, template, settings and code that make tokens of them)",
    "weights": " (a hash of the weights that training starts from)",
    "run": " (the checkpoint was written by another run and put here)",
    "inputs": " (a hash of the file)",
}


@dataclass(frozen=True)
class Trust:
    """What is used though another user owns it, since this one says so."""

    folder: bool = False  # the run folder is written into


class RunFolder:
    """`with RunFolder(path) as run: run.take(resume=...)`."""

    def __init__(self, path: Path | str, trust: Trust | None = None):
        self.path, self.trust = Path(path), trust or Trust()
        self.recipe = self.path / "recipe.yaml"
        self.environment = self.path / "environment.json"
        self.identity = self.path / "identity.json"
        self.metrics = self.path / "metrics.jsonl"
        self.completions = self.path / "completions.jsonl"
        self.checkpoints = self.path / "checkpoints"
        self.final = self.path / "final"
        self.critic = self.path / "critic"  # of a run whose critic is a model of its own
        self.copies = self.path / "copies"  # of a run in which copies of the policy follow it
        self.sources = self.path / "sources.json"  # of a run that learns their weights
        self.report = self.path / "report.html"
        self._lock = Lock(self.path / LOCK)

    @property
    def used(self) -> bool:
        """Whether a run has written here."""
        if (self.path / "init" / "fresh.json").exists() and not self.recipe.exists():
            return False  # fresh weights of a run that failed before it began
        names = [p.name for p in self.path.iterdir()] if self.path.is_dir() else []
        return any(not n.startswith(".") and n not in (*OTHERS, GIVEN) for n in names)

    @property
    def ended(self) -> bool:
        """Whether a run has come to its end here. It writes its report last, but others may write one before."""
        return all(path.exists() for path in (self.path / "outcome.json", self.final, self.report))

    def take(self, *, resume: bool) -> None:
        """Makes and locks the folder.

        Raises UserError when a live run has it, or a former one and not `resume`; when another user owns it; when
        writing into it could leave it, by way of a link.
        """
        try:
            if self.path.is_dir():
                self.refuse_strange()
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock.take()
        except OSError as error:
            raise UserError(
                f"training.output_dir: {self.path}: cannot be written: {error}; choose another place"
            ) from error
        if not resume:
            try:
                self.refuse_used()
            except UserError:
                self._lock.release()
                raise

    def refuse_used(self) -> None:
        """UserError where a run has written here."""
        if self.used:
            raise UserError(
                f"training.output_dir: {self.path} holds a run already, and nothing is overwritten. "
                "Go on with it by --resume, or choose another training.output_dir"
            )

    def refuse_strange(self) -> None:
        """UserError where another user owns the folder, or writing into it could leave it."""
        owner = None if self.trust.folder else stranger(self.path)
        if owner is not None:
            raise UserError(
                f"training.output_dir: {self.path}: belongs to another user (number {owner}), and what stands in it "
                "would be taken as this run's. Pass --trust-folder if that is meant; else choose another "
                "training.output_dir, and go on from a checkpoint in it by --resume PATH"
            )
        if odd := odd_in(self.path, APART):
            more = f" and {len(odd) - SHOWN} more" if len(odd) > SHOWN else ""
            raise UserError(
                f"training.output_dir: {self.path}: {', '.join(odd[:SHOWN])}{more}: a link or a pipe, and nothing is "
                "written through those. Put the file or folder itself there, or remove it; the run folder as a whole "
                "may be a link"
            )

    def release(self) -> None:
        self._lock.release()

    def write_recipe(self, text: str) -> None:
        """The resolved recipe, as YAML that can be run again."""
        self._write(self.recipe, text)

    def write_environment(self, now: Mapping[str, Any]) -> list[str]:
        """Returns how it differs from that of the run's beginning: a resume is then not bitwise for certain."""
        before = _read_json(self.environment)
        self._write(self.environment, json.dumps(now, indent=1) + "\n")
        if before is None:
            return [f"{self.environment}: cannot be read, so that nothing says of the one before"]
        return differences(before, dict(now)) if before else []

    def _write(self, path: Path, text: str) -> None:
        try:
            replace_file(path, text)
        except OSError as error:
            raise RunError(f"{path}: cannot be written: {error}") from error


def check_resume(
    saved: Mapping[str, Any], now: Mapping[str, Any], allow: Sequence[str] = (), before: Mapping[str, Any] | None = None
) -> list[str]:
    """Refuses to go on with another run than the one that was saved.

    All are identities (`align.run.identity`) or parts of one: `saved` that of the checkpoint, `before` what the run
    folder was last called, whose differences from the checkpoint have been allowed before. Every key that is in either
    is compared, but what a `saved` of the first format could not have. `allow` names keys (`training.max_steps`),
    sections (`optim`) or `all`. Returns the differences that were allowed, to be said aloud. Raises Mistakes naming the
    others.
    """
    old, new, between = _flat(saved), _flat(now), _flat(before or {})
    unknown = () if "format" in old else NEWER
    allowed, refused = [], []
    for key in sorted({*old, *new} - {"format"}):
        if old.get(key) == new.get(key) or _covered(key, FREE) or _covered(key, unknown):
            continue
        both = f"the saved run has {_show(old, key)}, this one {_show(new, key)}"
        text = f"{key}: {both}{CONTENTS.get('inputs' if _covered(key, ('inputs',)) else key, '')}"
        known = before is not None and between.get(key) == new.get(key) and key != "run"
        (allowed if known or "all" in allow or _covered(key, allow) else refused).append((key, text))
    if refused:
        cure = "put the old value back, or allow the change with --allow-changes"
        raise Mistakes(f"resume: {text}; {cure} {key}" for key, text in refused)
    return [text for _, text in allowed]


def fixed(identity: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted key -> value of all that decides what is learned."""
    return {k: v for k, v in _flat(identity).items() if not (_covered(k, FREE) or k in NAMES)}


def _flat(state: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted keys; those of the recipe without a prefix, as the user writes them."""
    found: dict[str, Any] = {}
    for key, value in state.items():
        name = "" if key == "recipe" and not prefix else f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            found |= _flat(value, f"{name}." if name else "")
        else:
            found[name] = value
    return json.loads(json.dumps(found)) if not prefix else found  # as after a trip through a file


def _covered(key: str, names: Sequence[str]) -> bool:
    return any(key == n or key.startswith(f"{n}.") for n in names)


def _show(state: Mapping[str, Any], key: str) -> str:
    text = repr(state[key]) if key in state else "none"
    text = text[:13] + "...'" if key.startswith("inputs.") and key in state else text
    return text if len(text) <= 80 else f"{text[:77]}..."


def _read_json(path: Path) -> dict[str, Any] | None:
    """Empty where there is none yet, None where it is damaged."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None

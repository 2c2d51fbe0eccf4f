"""A run folder, or a checkpoint of one: which weights, and what its recipe says of prompts and completions.

The recipe is read as it lies in the run folder, without the checks that training makes: its data may be gone.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from align.data.text.template import choose_template
from align.errors import RunError, UserError
from align.models.load import load_policy
from align.models.settings import LoraSection, ModelSection, SoupSection
from align.models.sources import resolve
from align.models.tokenizer import load_tokenizer
from align.recipe.text import read
from align.runfolder.checkpoint import checkpoints, is_checkpoint, verify
from align.runfolder.fragments import Saved
from align.runfolder.state_files import load_state
from align.runfolder.unended import is_unended, newest_first, nothing_to_take, taken
from align.system.sums import sha256_of
from align.system.terminal import say
from align.training.member_files import STATE
from align.training.team import MOVED
from align_eval.generation.asked import Trained

INSIDE = "model."  # the policy's parameters among those of what was trained; beside them may be a value head


@dataclass(frozen=True, kw_only=True)
class Where:
    """What a model's name means."""

    section: ModelSection
    run: Path | None = None  # whose recipe counts
    checkpoint: Path | None = None
    final: bool = True  # a folder that stands by itself, with its template; else what training began with
    recipe: dict[str, Any] = field(default_factory=dict)

    def part(self, name: str) -> dict[str, Any]:
        found = self.recipe.get(name)
        return found if isinstance(found, dict) else {}

    def trained(self) -> Trained:
        """Of completions; only a run whose policy wrote them says anything."""
        rollout = self.part("rollout")
        if not rollout:
            return Trained()
        stops = tuple(map(str, rollout.get("stop_strings") or ()))
        return Trained(max_completion_length=int(rollout.get("max_completion_length") or 0), stop_strings=stops)

    @property
    def init(self) -> Path:
        """Where a run has put fresh weights."""
        return self.run / "init" if self.run else Path()

    @property
    def special_tokens(self) -> Any:
        """Names of special tokens that prompts may write."""
        data, added = self.part("data").get("special_tokens") or [], self.section.add_tokens
        return data if data == "all" else [*data, *added]


def find(name: str, dtype: str = "auto") -> Where:
    """A model folder, a run folder (its `final/`, or its newest good checkpoint), a checkpoint in one, asset:NAME, or a
    hub name. UserError."""
    path = Path(name).expanduser()
    if is_checkpoint(path):
        return _checkpoint(path)
    if is_unended(path):
        return _newest(path)
    folder = Path(resolve(name))
    run = path if (path / "recipe.yaml").is_file() else folder.parent
    recipe = _recipe(run) if folder.name == "final" and (run / "recipe.yaml").is_file() else {}
    return Where(section=ModelSection(model_name_or_path=str(folder)), run=run if recipe else None, recipe=recipe)


def steps_of(run: Path) -> list[Path]:
    """The checkpoints of a run. UserError where it has none, or is no run."""
    found = checkpoints(run / "checkpoints")
    if not found:
        what = "no checkpoints" if (run / "recipe.yaml").is_file() else "no recipe.yaml, so it is no run folder"
        raise UserError(f"{run}: has {what}; name a run of align train with training.save_steps set")
    return found


def _newest(run: Path) -> Where:
    """Of a run without `final/` its newest good checkpoint, aloud."""
    good = next((path for path in newest_first(run) if not verify(path)), None)
    if good is None:
        raise UserError(nothing_to_take(run))
    say(taken(run, good))
    return _checkpoint(good)


def _checkpoint(path: Path) -> Where:
    if damage := verify(path):
        raise UserError(f"{path}: {'; '.join(damage[:3])}; take another checkpoint")
    if not _files(path):
        raise UserError(f"{path}: has no {STATE}-00000.pt, so an older align wrote it; name the run's final/")
    if (path / f"{MOVED}-00000.pt").exists() and load_state(path / f"{MOVED}-00000.pt").get("ahead"):
        raise UserError(f"{path}: has gone ahead of its adapter; make a model of it: align export {path} FOLDER")
    run = path.parent.parent
    recipe = _recipe(run)
    return Where(section=_section(run, recipe), run=run, checkpoint=path, recipe=recipe, final=False)


def beginning_of(run: Path) -> Where:
    """What a run began with, read as its own recipe reads it."""
    recipe = _recipe(run)
    return Where(section=_section(run, recipe), run=run, recipe=recipe, final=False)


def _recipe(run: Path) -> dict[str, Any]:
    found = read(run / "recipe.yaml")
    if found.mistakes:
        raise UserError(found.mistakes[0])
    return found.values


def _section(run: Path, recipe: dict[str, Any]) -> ModelSection:
    """The recipe's section `model`, from which training began."""
    given = recipe.get("model") or {}
    known = {f.name for f in fields(ModelSection)}
    if unknown := [key for key in given if key not in known]:
        raise UserError(f"{run / 'recipe.yaml'}: model.{unknown[0]}: no such key; it is from another version of align")
    lora, reference = given.get("lora"), given.get("reference", "auto")
    return ModelSection(
        **{**given, "lora": LoraSection(**lora) if isinstance(lora, dict) else None, "critic": None,
           "reference": SoupSection(**reference) if isinstance(reference, dict) else reference}
    )  # fmt: skip


def vocabulary_of(where: Where) -> tuple[Any, str]:
    """The tokenizer and the chat template. UserError."""
    tokenizer = load_tokenizer(where.section)
    data = {} if where.final else where.part("data")  # final/ has its template in its tokenizer
    file, arguments = data.get("chat_template") or "", data.get("chat_template_kwargs") or {}
    return tokenizer, choose_template(tokenizer, file, arguments)


def model_of(where: Where, tokenizer: Any) -> Any:
    """The model with its weights. UserError, RunError."""
    model = load_policy(where.section, tokenizer, "lm", where.init)
    if where.checkpoint:
        _put(model, where.checkpoint)
    return model


def _files(checkpoint: Path) -> list[Path]:
    """Those of all ranks, of what training changes."""
    return sorted(checkpoint.glob(f"{STATE}-*.pt"))


def _put(model: Any, checkpoint: Path) -> None:
    """The weights of a checkpoint into the model that training began with."""
    kept = Saved(checkpoint / STATE, 0).whole()
    given = {k.removeprefix(INSIDE): v for k, v in kept.items() if k.startswith(INSIDE)}
    found = model.load_state_dict(given, strict=False)
    changed = {name for name, p in model.named_parameters() if p.requires_grad}
    if found.unexpected_keys or not given:
        what = ", ".join(found.unexpected_keys[:3]) or "there are no weights of a policy"
        raise RunError(f"{checkpoint}: is of another model: {what}")
    tied = set(getattr(getattr(model, "base_model", model), "all_tied_weights_keys", {}))
    if lacking := sorted(changed - given.keys() - tied):
        told = f"{', '.join(lacking[:3])} ({len(lacking)} in all)"
        raise RunError(f"{checkpoint}: lacks weights that training changes: {told}")


def weights_of(where: Where) -> str:
    """Sums of what a checkpoint holds of weights; empty where there is none."""
    return " ".join(sha256_of(file) for file in _files(where.checkpoint)) if where.checkpoint else ""

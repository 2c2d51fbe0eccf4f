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
from align.models.sources import resolve, whole_weights
from align.models.tokenizer import load_tokenizer
from align.recipe.text import read
from align.runfolder.checkpoint import checkpoints, step_of, verify
from align.runfolder.state_files import load_tensors
from align.system.sums import sha256_of
from align_eval.generation.asked import Trained

WEIGHTS = "weights.safetensors"
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
    """A model folder, a run folder (its `final/`), a checkpoint in one, asset:NAME, or a hub name. UserError."""
    path = Path(name).expanduser()
    if step_of(path) >= 0 and (path / "manifest.json").exists():
        return _checkpoint(path)
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


def _checkpoint(path: Path) -> Where:
    if damage := verify(path):
        raise UserError(f"{path}: {'; '.join(damage[:3])}; take another checkpoint")
    if not (path / WEIGHTS).exists():
        raise UserError(f"{path}: holds DeepSpeed's files, which only a run of that kind reads; name the run's final/")
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
    with whole_weights():
        model = load_policy(where.section, tokenizer, "lm", where.init)
    if where.checkpoint:
        _put(model, where.checkpoint / WEIGHTS)
    return model


def _put(model: Any, file: Path) -> None:
    """The weights of a checkpoint into the model that training began with."""
    given = {k.removeprefix(INSIDE): v for k, v in load_tensors(file).items() if k.startswith(INSIDE)}
    found = model.load_state_dict(given, strict=False)
    changed = {name for name, p in model.named_parameters() if p.requires_grad}
    if found.unexpected_keys or not given:
        what = ", ".join(found.unexpected_keys[:3]) or "there are no weights of a policy"
        raise RunError(f"{file}: is of another model: {what}")
    tied = set(getattr(getattr(model, "base_model", model), "all_tied_weights_keys", {}))
    if lacking := sorted(changed - given.keys() - tied):
        raise RunError(f"{file}: lacks weights that training changes: {', '.join(lacking[:3])} ({len(lacking)} in all)")


def weights_of(where: Where) -> str:
    """A sum of the weights of a checkpoint; empty where there is none."""
    return sha256_of(where.checkpoint / WEIGHTS) if where.checkpoint else ""

"""A checkpoint as a model folder: what its run would have left had it ended there."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch

from align.errors import UserError
from align.models import save
from align.models.ahead import put_ahead
from align.models.frozen import freeze
from align.models.load import load_policy
from align.models.tokenizer import load_tokenizer
from align.recipe.load import load_recipe
from align.run.copies import let_jump
from align.run.parts import head_of
from align.runfolder import checkpoint
from align.runfolder.fragments import Saved
from align.runfolder.state_files import load_state
from align.scoring.score import Kernel, Scorer
from align.training.member_files import STATE
from align.training.team import MOVED


def is_checkpoint(path: Path) -> bool:
    return checkpoint.step_of(path) >= 0 and (path / checkpoint.MANIFEST).exists()


def export(path: Path, out: Path) -> float:
    """Puts the pieces of all ranks together and exports them as `align.models.save.export` does. UserError."""
    checkpoint.require_good(path)
    written = path.parent.parent / "recipe.yaml"
    if not written.exists():
        raise UserError(f"{written}: is not there, and says which model the checkpoint is of; put the run folder back")
    recipe = load_recipe(str(written), [])
    head, init = head_of(recipe), path.parent.parent / "init"
    tokenizer = load_tokenizer(recipe.model, head)
    model = load_policy(recipe.model, tokenizer, head, init)
    let_jump(recipe.method, model)
    _put(path, Scorer(model, Kernel("sdpa")))
    with tempfile.TemporaryDirectory(dir=out.resolve().parent, prefix=f".{out.name}-") as place:
        whole = Path(place) / "final"
        save.save_final(freeze(model), tokenizer, whole, base_name=recipe.model.model_name_or_path)
        return save.export(whole, out)


def _put(path: Path, scorer: Scorer) -> None:
    """What training has changed of the policy. A value head stays behind, as it does in `final/`."""
    found, named = Saved(path / STATE, 0).whole(), dict(scorer.named_parameters())
    strange = [n for n, t in found.items() if n in named and named[n].shape != t.shape]
    strange += [n for n in found if n not in named and not n.startswith("value.")]
    if strange or not found:
        raise UserError(f"{path}: is of another model than its recipe names: {', '.join(strange[:3]) or 'it is empty'}")
    with torch.no_grad():
        for name, tensor in found.items():
            if name in named:
                named[name].copy_(tensor)
    if (moved := path / f"{MOVED}-00000.pt").exists():
        put_ahead(scorer, load_state(moved)["ahead"])

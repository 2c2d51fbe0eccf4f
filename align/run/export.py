"""A checkpoint as a model folder: what its run would have left had it ended there."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock

from align.data.text.template import choose_template, give_template
from align.errors import UserError
from align.models import save
from align.models.ahead import put_ahead
from align.models.frozen import freeze
from align.models.load import load_policy
from align.models.sources import OF_CHECKPOINT, kept_of, read_json
from align.models.tokenizer import load_tokenizer
from align.recipe.past import Past, past_of
from align.run.copies import let_jump
from align.run.parts import head_of
from align.runfolder import checkpoint
from align.runfolder.fragments import Saved
from align.runfolder.state_files import load_state
from align.runfolder.unended import is_unended, newest_first, nothing_to_take, taken
from align.scoring.score import Kernel, Scorer
from align.system.files import inner_folder
from align.system.machine import is_full
from align.system.sums import sha256_of
from align.system.terminal import say
from align.training.member_files import STATE
from align.training.team import MOVED
from align.world.here import rank


def export(path: Path, out: Path, dtype: str = "") -> save.Exported:
    """Puts the pieces of all ranks together and exports them as `align.models.save.export` does. UserError."""
    save.refuse_place(out)
    checkpoint.require_good(path)
    out.resolve().parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.resolve().parent, prefix=f".{out.name}-") as place:
        whole = Path(place) / "final"
        _write(path, whole)
        return save.export(whole, out, dtype)


def model_folder(folder: Path) -> Path:
    """The model of a checkpoint, or of a run without `final/` by its newest good checkpoint, which is said aloud.

    Made once, as `models/step-000050` of the run, and made anew where the checkpoint has become another. UserError
    where the checkpoint is damaged, where there is none, and where the run folder cannot be written.
    """
    if not is_unended(folder):
        return _kept(folder)
    for path in newest_first(folder):
        if problems := [] if _is_kept(path) else checkpoint.verify(path):
            _aloud(f"{path}: damaged: {'; '.join(problems)}. Trying the one before it")
            continue
        _aloud(taken(folder, path))
        return _kept(path)
    raise UserError(nothing_to_take(folder))


def _aloud(text: str) -> None:
    """For all processes of a run alike."""
    if rank() == 0:
        say(text)


def _kept(path: Path) -> Path:
    """Where several processes want it, one makes it and the others wait."""
    whole = kept_of(path)
    if _is_kept(path):
        return whole
    past_of(path.parent.parent)
    checkpoint.require_good(path)
    try:
        inner_folder(whole.parent)
        with FileLock(whole.parent / f".{whole.name}.lock"):
            if not _is_kept(path):
                say(f"{path}: a model folder is made of it, {whole}")
                _write(path, whole)
    except OSError as error:
        if is_full(error):
            raise
        cure = f"make the folder elsewhere and name that: align export {path} DIR"
        raise UserError(f"{whole}: cannot be written: {error.strerror or error}; {cure}") from error
    return whole


def _is_kept(path: Path) -> bool:
    """Whether what was made is of this very checkpoint: a run that was set back may have written another one."""
    note = kept_of(path) / OF_CHECKPOINT
    return note.exists() and read_json(note).get("manifest") == sha256_of(path / checkpoint.MANIFEST)


def _write(path: Path, whole: Path) -> None:
    run = path.parent.parent
    past = past_of(run)
    head = head_of(past)
    tokenizer = load_tokenizer(past.model, head)
    give_template(tokenizer, _template(run, past, tokenizer))
    model = load_policy(past.model, tokenizer, head, run.resolve() / "init")
    let_jump(past.method, model)
    _put(path, Scorer(model, Kernel("sdpa")))
    base = past.model.model_name_or_path
    there = Path(base).expanduser()
    sealed = {"step": checkpoint.step_of(path), "manifest": sha256_of(path / checkpoint.MANIFEST)}
    base = str(there.resolve()) if base and there.is_dir() else base
    save.save_final(freeze(model), tokenizer, whole, base_name=base, notes={OF_CHECKPOINT: sealed})


def _template(run: Path, past: Past, tokenizer: Any) -> str:
    """The one that `final/` would have; an older align did not write down what became of it."""
    about = run / "data.json"
    found = read_json(about).get("chat_template") if about.exists() else None
    chosen = past.data.chat_template, past.data.chat_template_kwargs
    return found if isinstance(found, str) else choose_template(tokenizer, *chosen)


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

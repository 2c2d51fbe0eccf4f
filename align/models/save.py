"""Folders that transformers can load without us: final/, and the merged export."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor, nn
from transformers import GenerationConfig, PreTrainedTokenizerFast
from transformers.utils import GENERATION_CONFIG_NAME

from align.errors import RunError, UserError
from align.models import quantised
from align.models.ahead import widen
from align.models.embeddings import whole
from align.models.frozen import model_in
from align.models.generate import without_defaults
from align.models.parts import has_scalar_head, unwrapped
from align.models.settings import ModelSection
from align.models.sources import (
    HISTORY,
    MODELS,
    adapter_base,
    folder_fingerprint,
    has_adapter,
    quiet,
    read_json,
    resolve,
)
from align.models.tokenizer import Head, load_tokenizer, stop_ids
from align.system.files import aside_of, new_folder, put_folder, write_json
from align.system.machine import spare_deepspeed_the_search, unwritable
from align.system.sums import digest_of

# largest difference of logits, relative to the largest logit, that merging and rounding may leave
_TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 3e-2, torch.float16: 4e-3}
ORIGIN = "align_origin.json"  # beside float32 weights that were trained from others: the dtype of those


def save_final(
    model: Any,
    tokenizer: PreTrainedTokenizerFast,
    directory: Path,
    state_dict: Mapping[str, Tensor] | None = None,
    base_name: str = "",
    notes: Mapping[str, Mapping[str, Any]] | None = None,
) -> None:
    """Saves a transformers folder; of a PeftModel the adapter, and in `align_base.json` the name of its base.

    Weights, tokenizer, chat template, and a generation config in which every stop id stands. `state_dict` holds the
    gathered weights where the model's own are shards; `base_name` is the base as the recipe names it; `notes` are JSON
    files to be put beside. The folder is written aside and renamed. For one process.
    """
    aside = new_folder(aside_of(directory))
    inner = unwrapped(model)
    stops = stop_ids(tokenizer, inner)
    _mend_generation(inner, stops, tokenizer)
    twins = getattr(inner, "all_tied_weights_keys", {})  # saved under one name, also where gathering made two tensors
    given = None if state_dict is None else {name: t for name, t in state_dict.items() if name not in twins}
    if isinstance(model, PeftModel):
        _save_adapter(model, aside, given, base_name, directory)
    else:
        with quiet(), without_defaults(inner):
            model.save_pretrained(aside, state_dict=given)
        _note_origin(inner, aside, base_name)
    if not has_scalar_head(model):
        inner.generation_config.to_json_file(aside / GENERATION_CONFIG_NAME)  # unchecked: it was read in the same way
    tokenizer.save_pretrained(aside)
    for file, note in (notes or {}).items():
        write_json(aside / file, note)
    _readable(aside)
    put_folder(aside, directory)


def _readable(folder: Path) -> None:
    """Who may read the config may read the weights: safetensors makes files that are its user's alone."""
    like = next(folder.glob("*config.json")).stat().st_mode
    for file in folder.glob("*.safetensors"):
        file.chmod(like)


def _note_origin(model: Any, aside: Path, base_name: str) -> None:
    if model.dtype != torch.float32 or not base_name:
        return
    if (dtype := origin_dtype(resolve(base_name))) != torch.float32:
        write_json(aside / ORIGIN, {"dtype": _name(dtype)})


def _mend_generation(model: Any, stops: tuple[int, ...], tokenizer: PreTrainedTokenizerFast) -> None:
    """Writes the stop ids into the generation config; sampling settings without do_sample could not be saved."""
    config = getattr(model, "generation_config", None)
    if config is None:
        return
    config.eos_token_id = list(stops)
    if config.pad_token_id is None:
        config.pad_token_id = tokenizer.pad_token_id
    try:
        config.validate(strict=True)
    except ValueError:
        config.do_sample = True


def _save_adapter(
    model: PeftModel, aside: Path, state_dict: dict[str, Tensor] | None, base_name: str, directory: Path
) -> None:
    config = model.peft_config["default"]
    folder = str(config.base_model_name_or_path)
    name = _base_of(base_name, folder)
    root = directory.resolve().parent
    root = root.parent if root.name in (MODELS, "copies") else root
    if Path(name).is_dir() and Path(name).resolve().is_relative_to(root):
        name = os.path.relpath(Path(name).resolve(), directory.resolve())  # the run folder may be moved
    # new rows are saved by trainable_token_indices; the whole tables need not be
    model.save_pretrained(str(aside), state_dict=state_dict, save_embedding_layers=False)
    widen(aside, model)
    note = {"name": name, "fingerprint": folder_fingerprint(folder)}
    if kept := getattr(unwrapped(model), quantised.OF_MODEL, None):
        note[quantised.NOTE] = kept
    write_json(aside / "align_base.json", note)
    if (aside / "README.md").exists():
        (aside / "README.md").unlink()  # peft's empty model card


def _base_of(name: str, folder: str) -> str:
    """What an adapter's base is called, where the recipe says `name`: of an adapter that has gone on, its own base."""
    if not name or not has_adapter(inside := resolve(name)):
        return name or folder
    note = Path(inside, "align_base.json")
    before = str(read_json(note).get("name") or "") if note.exists() else ""
    return folder if not before or Path(inside, before).is_dir() else before


def fingerprint(model_or_dir: nn.Module | str | Path) -> str:
    """sha256 over all weights: of a folder (or name) its safetensors files, of a module its state by sorted name."""
    if not isinstance(model_or_dir, nn.Module):
        return folder_fingerprint(resolve(str(model_or_dir)))
    total = sha256()
    # as parameters, since only those know that they are shards
    for name, tensor in sorted(model_or_dir.state_dict(keep_vars=True).items()):
        all_of_it = whole(tensor)
        total.update(f"{name} {all_of_it.dtype} {tuple(all_of_it.shape)}\n".encode())
        total.update(all_of_it.cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return total.hexdigest()


def settings_digest(model: nn.Module) -> str:
    """What a model's numbers depend on beside its weights: its config, and its adapters'."""
    inner: Any = unwrapped(model)
    adapters: dict[str, Any] = getattr(model, "peft_config", {})
    settings = [inner.config.to_dict(), *(adapters[name].to_dict() for name in sorted(adapters))]
    text = [{key: value for key, value in one.items() if key not in HISTORY} for one in settings]
    return digest_of(json.loads(json.dumps(text, default=lambda v: sorted(v) if isinstance(v, set) else str(v))))


@dataclass(frozen=True)
class Exported:
    """What a model folder that was exported and loaded again has become."""

    dtype: str  # of its weights
    gap: float  # largest difference of logits from what was trained, relative to the largest logit
    allowed: float  # what rounding to this dtype may leave
    from_4bit: bool = False  # its base was kept in 4 bits while the adapter was trained

    def __str__(self) -> str:
        base = ", the base as what its 4 bits stand for" if self.from_4bit else ""
        return (
            f"{self.dtype}{base}, reloaded; logits differ by {self.gap:.1e} of the largest ({self.allowed:.0e} is what "
            f"{self.dtype} may leave)"
        )


def export(final_dir: str | Path, out_dir: str | Path, dtype: str = "") -> Exported:
    """Writes the model of a run or folder, its adapter merged, as a plain transformers folder.

    Without a `dtype` (float32, bfloat16, float16) that of the model which training began with. Loads the result again
    and compares logits on random tokens. UserError for a wrong folder and for weights that the dtype cannot hold,
    RunError where the numbers do not come back.
    """
    folder, out = resolve(str(final_dir)), Path(out_dir)
    if not torch.cuda.is_available():
        spare_deepspeed_the_search()
    refuse_place(out)
    head = head_in(folder)
    tokenizer = load_tokenizer(ModelSection(model_name_or_path=folder), head)
    model = model_in(folder, tokenizer, head)
    probe = _probe(model)
    before = model(**probe).logits.float()
    merged: Any = model.merge_and_unload() if isinstance(model, PeftModel) else model
    kind = getattr(torch, dtype) if dtype else origin_dtype(folder)
    if has_adapter(folder) and (Path(folder) / "generation_config.json").exists():
        merged.generation_config = GenerationConfig.from_pretrained(folder)
    _refuse_too_large(merged, kind, folder)
    save_final(merged.to(kind), tokenizer, out)
    again = model_in(str(out), tokenizer, head)
    gap = float((again(**probe).logits.float() - before).abs().max() / before.abs().max().clamp(min=1e-6))
    from_4bit = bool(quantised.asked(ModelSection(), folder if has_adapter(folder) else ""))
    done = Exported(dtype=_name(kind), gap=gap, allowed=_TOLERANCE[kind], from_4bit=from_4bit)
    if not gap <= done.allowed:
        raise RunError(
            f"{out}: {done}, compared with {folder}; the export is not the model that was trained, do not use it"
        )
    return done


def refuse_place(out: Path) -> None:
    """UserError where no folder can be made there: nothing is written over."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out}: exists and is not empty; choose a new folder")
    if reason := unwritable(out):
        raise UserError(f"{out}: cannot be written: {reason}; choose another place")


def _refuse_too_large(model: nn.Module, dtype: torch.dtype, folder: str) -> None:
    most = torch.finfo(dtype).max
    if large := [n for n, p in model.named_parameters() if p.numel() and float(p.detach().abs().max()) > most]:
        raise UserError(
            f"{folder}: {large[0]} has weights beyond {most:g}, the most that {_name(dtype)} holds; export it with "
            "--dtype bfloat16 or float32"
        )


def head_in(folder: str) -> Head:
    """What the model in a folder is for: to write, or to score."""
    if has_adapter(folder):
        return "scalar" if read_json(Path(folder, "adapter_config.json")).get("task_type") == "SEQ_CLS" else "lm"
    names = read_json(Path(folder, "config.json")).get("architectures")
    first = str(names[0]) if isinstance(names, list) and names else ""
    return "scalar" if first.endswith("ForSequenceClassification") else "lm"


def origin_dtype(folder: str) -> torch.dtype:
    """The precision of the model that training began with: as it lies on disk, or as a run's `final/` has noted it,
    whose own weights are the float32 ones that were trained."""
    if has_adapter(folder):
        return origin_dtype(adapter_base(folder))
    note = Path(folder, ORIGIN)
    config = read_json(note if note.exists() else Path(folder, "config.json"))
    found = getattr(torch, str(config.get("dtype") or config.get("torch_dtype") or "float32"), torch.float32)
    return found if found in _TOLERANCE else torch.float32


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _probe(model: Any) -> dict[str, Tensor]:
    """Random tokens, the same at every call; two rows, never padded."""
    config = unwrapped(model).config.get_text_config()
    length = min(48, int(getattr(config, "max_position_embeddings", None) or 48))
    ids = torch.randint(0, config.vocab_size, (2, length), generator=torch.Generator().manual_seed(0))
    if config.pad_token_id is not None:
        ids[ids == config.pad_token_id] = (config.pad_token_id + 1) % config.vocab_size
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}

"""Names of models and tokenizers turned into local folders, and what such a folder holds."""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from align.errors import AlignError, UserError, did_you_mean, near_path
from align.system.machine import lacks
from align.system.sums import digest_of, sha256_of

ASSETS = Path(__file__).parents[1] / "assets"
HUB_NAME = re.compile(r"([\w.-]+(?:/[\w.-]+)?)(?:@([\w./-]+))?")  # name@revision
LONGEST_REASON = 400  # characters of a library's complaint
HUB_TIMEOUT = 10.0  # seconds; without a network the hub's own client would retry for half a minute a file
HISTORY = ("transformers_version", "_name_or_path", "name_or_path")  # of a config: who wrote it, and where
CONFIGS = ("config.json", "generation_config.json")
MAKER = "align.run.export"  # who makes a model folder of a checkpoint; above, since a run's recipe is read for it
MODELS = "models"  # in a run folder: those of its checkpoints
OF_CHECKPOINT = "align_checkpoint.json"  # in such a folder: which one it was made of
WANTED = ["*.json", "*.safetensors", "*.jinja", "*.model", "*.txt"]  # of a hub repository; never pickles


def resolve(name: str, *, code: bool = False) -> str:
    """The local folder that `name` means: a model folder, a run folder (its `final/`), a checkpoint in one,
    `asset:NAME`, or a hub name, with `@` and a commit, tag or branch behind it where that is not its newest.

    A model folder is made of a checkpoint when it is first named, and kept as `models/step-000050` of its run; of a run
    without `final/` the newest good checkpoint is taken, aloud. A hub name is looked up in the hub's cache first and
    downloaded otherwise; `code` fetches Python files too. Raises UserError for a name that is none of these.
    """
    if name.startswith("asset:"):
        return _asset(name)
    folder = Path(name).expanduser()
    if folder.is_dir():
        return str(_inside(folder))
    if folder.is_file():
        raise UserError(f"{name}: is a file; a model or tokenizer is a folder as transformers saves it")
    if is_kept(folder):
        return str(kept_of(folder))  # the checkpoint itself was removed since, as training.save_total_limit does
    if not HUB_NAME.fullmatch(name) or name.startswith("."):
        cure = f"give a model folder, a run folder, asset:NAME or a hub name (NAME@REVISION){near_path(folder)}"
        raise UserError(f"{name}: no such folder; {cure}")
    return _from_hub(name, code)


def kept_of(checkpoint: Path) -> Path:
    """Where the model folder of a checkpoint is kept once it was made."""
    return checkpoint.parent.parent / MODELS / checkpoint.name


def is_kept(checkpoint: Path) -> bool:
    inside = checkpoint.parent.name == "checkpoints" and re.fullmatch(r"step-\d{6,}", checkpoint.name)
    return bool(inside) and (kept_of(checkpoint) / OF_CHECKPOINT).exists()


def _inside(folder: Path) -> Path:
    """The folder, its `final/`, or what is made of a checkpoint. UserError for a run that has left none of them."""
    if (folder / "config.json").exists() or has_adapter(folder):
        return folder
    if (folder / "final").is_dir():
        return folder / "final"
    if (folder / "manifest.json").exists() or (folder / "recipe.yaml").exists():
        return importlib.import_module(MAKER).model_folder(folder)
    return folder


def _asset(name: str) -> str:
    short = name.removeprefix("asset:")
    there = sorted(p.parent.name for p in ASSETS.glob("*/config.json"))
    if short not in there:
        raise UserError(f"{name}: no such model is shipped; there are {', '.join(there)}.{did_you_mean(short, there)}")
    return str(ASSETS / short)


def _from_hub(name: str, code: bool) -> str:
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    wanted = [*WANTED, "*.py"] if code else WANTED
    repo, revision = re.fullmatch(HUB_NAME, name).groups()  # type: ignore[union-attr]  # `resolve` has matched it
    cached = ""
    try:
        cached = snapshot_download(repo, revision=revision, allow_patterns=wanted, local_files_only=True)
        if _is_whole(Path(cached)):
            return cached
        revision = Path(cached).name  # what is there came from this commit, and so does the rest
    except LocalEntryNotFoundError:
        pass
    try:
        HfApi().model_info(repo, revision=revision, timeout=HUB_TIMEOUT)
        return snapshot_download(repo, revision=revision, allow_patterns=wanted)
    except OfflineModeIsEnabled:
        found = "the hub is switched off (HF_HUB_OFFLINE) and its cache does not have it"
    except HfHubHTTPError as error:
        found = f"the hub answers: {str(error).splitlines()[0]}"
    except Exception as error:  # the HTTP client's own errors share no base with OSError
        found = f"the hub cannot be reached ({type(error).__name__}) and its cache does not have it"
    if cached:  # who reads it says what it lacks, if anything
        return cached
    found += f"; give a local folder, or fetch it first{near_path(Path(name))}"
    raise UserError(f"{name}: no such folder here, and {found}")


def _is_whole(folder: Path) -> bool:
    """Whether a folder of the hub's cache has all that a model is: another program may have fetched a part of it."""
    index = next(iter(folder.glob("*.safetensors.index.json")), None)
    shards = set((read_json(index).get("weight_map") or {}).values()) if index else {"*.safetensors"}
    patterns = "*config.json", "tokenizer*", *shards
    return all(any(folder.glob(pattern)) for pattern in patterns)


def commit_of(folder: str | Path) -> str:
    """The commit of a hub's repository that a folder of its cache holds; empty for other folders."""
    inside = Path(folder).parent.name == "snapshots" and Path(folder).parents[1].name.startswith("models--")
    return Path(folder).name if inside else ""


def _sum_of_weights(file: Path) -> str:
    """Gigabytes, asked for again and again, are read once in a process as long as the file is not written."""
    found = file.stat()
    return _remembered(file.resolve(), found.st_size, found.st_mtime_ns, found.st_ino)


@lru_cache(maxsize=4096)
def _remembered(file: Path, *written: int) -> str:
    return sha256_of(file)


@contextmanager
def quiet() -> Iterator[None]:
    """transformers' progress bars and load reports switched off: we tell what matters ourselves."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def has_adapter(folder: str | Path) -> bool:
    return Path(folder, "adapter_config.json").exists()


def read_json(path: str | Path) -> dict[str, Any]:
    """A JSON object; UserError where the file is missing, broken or something else."""
    path, damaged = Path(path), "the folder is damaged, save or copy it again"
    if not path.exists():
        raise UserError(f"{path}: no such file; {path.parent} is not a model folder as transformers saves it")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not valid JSON ({error}); {damaged}") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}; {damaged}") from None
    if not isinstance(found, dict):
        raise UserError(f"{path}: holds no JSON object but {type(found).__name__}; {damaged}")
    return found


@contextmanager
def refusing(finding: str, cure: str = "") -> Iterator[None]:
    """Around what a library makes of a folder or setting that is not ours: it may raise anything, and that is told as
    the UserError `finding: reason; cure`. What this machine lacks stays what it is.
    """
    try:
        yield
    except AlignError:
        raise
    except Exception as error:
        if lacks(error):
            raise
        raise UserError(f"{finding}: {reason_of(error)}{cure and f'; {cure}'}") from error


def reason_of(error: Exception) -> str:
    """A library's complaint on one line, with its kind where that is what says something."""
    text = " ".join(str(error).split())
    text = text if len(text) <= LONGEST_REASON else f"{text[:LONGEST_REASON]}..."
    said = isinstance(error, ValueError | OSError | RuntimeError | ImportError | UserWarning) or " " in text
    return text if text and said else f"{type(error).__name__}: {text}" if text else type(error).__name__


def weight_files(folder: str | Path) -> list[Path]:
    """The safetensors files of a folder, sorted by name; UserError where there are none, with the cure for pickles."""
    folder = Path(folder)
    found = sorted(folder.glob("*.safetensors"))
    if found:
        for index in sorted(folder.glob("*.safetensors.index.json")):
            _refuse_far_shards(index)
        return found
    if pickles := sorted(p.name for pattern in ("*.bin", "*.pt", "*.pth") for p in folder.glob(pattern)):
        raise UserError(
            f"{folder}: has {', '.join(pickles)} but no *.safetensors; pickles are never loaded. If you trust them, "
            f'convert once: python -c "from transformers import AutoModelForCausalLM as M; '
            f"M.from_pretrained('{folder}').save_pretrained('{folder}-safe')\", and copy the tokenizer's files beside"
        )
    raise UserError(f"{folder}: no *.safetensors; give a folder with weights, or make a fresh model with model.config")


def _refuse_far_shards(index: Path) -> None:
    """What an index names is read and fingerprinted, so it must be what stands beside it."""
    places = read_json(index).get("weight_map")
    names = {str(name) for name in places.values()} if isinstance(places, dict) else set()
    if far := sorted(name for name in names if "/" in name or "\\" in name or not name.endswith(".safetensors")):
        raise UserError(f"{index}: names {far[0]!r}, which is no safetensors file of this folder; do not use it")


def adapter_base(folder: str | Path) -> str:
    """The local folder of the weights that an adapter was trained on, checked by their fingerprint if it is known.

    `align_base.json` (ours) names it as the recipe did, or relative to the adapter; else peft's `adapter_config.json`.
    """
    folder = Path(folder)
    note = folder / "align_base.json"
    written = read_json(note) if note.exists() else {}
    name = base_name(folder)
    if not name:
        raise UserError(f"{folder / 'adapter_config.json'}: names no base_model_name_or_path; write it there")
    try:
        base = resolve(name)
    except UserError as error:
        raise UserError(f"{folder}: the adapter's base model is gone: {error}") from None
    if (known := written.get("fingerprint")) and known != folder_fingerprint(base):
        raise UserError(
            f"{folder}: was trained on other weights than {base} holds now; put the old ones back, "
            f"or name the right base in {note}"
        )
    return base


def base_name(folder: Path) -> str:
    """What an adapter's base is called; of one that lies beside the adapter its folder."""
    note = folder / "align_base.json"
    written = read_json(note).get("name") if note.exists() else ""
    name = str(written or read_json(folder / "adapter_config.json").get("base_model_name_or_path") or "")
    return str(beside.resolve()) if name and (beside := folder / name).is_dir() else name


def folder_fingerprint(folder: str | Path) -> str:
    """sha256 over names and contents of the safetensors files, and over the base where the folder holds an adapter."""
    total, files = sha256(), weight_files(folder)
    with ThreadPoolExecutor(4) as pool:
        sums = list(pool.map(_sum_of_weights, files))
    for path, found in zip(files, sums, strict=True):
        total.update(f"{path.name} {found}\n".encode())
    if has_adapter(folder):
        total.update(f"base {folder_fingerprint(adapter_base(folder))}\n".encode())
    return total.hexdigest()


def side_files(folder: str | Path, *, code: bool = False) -> list[Path]:
    """What is read of a model or tokenizer beside its weights: config, tokenizer, templates, generation settings."""
    folder = Path(folder)
    wanted = [w for w in (*WANTED, "additional_chat_templates/*.jinja") if w != "*.safetensors"]
    return sorted(p for w in (*wanted, *(["*.py"] if code else [])) for p in folder.glob(w) if p.is_file())


def side_sums(folder: str | Path, *, code: bool = False) -> dict[str, str]:
    """Name -> sha256 of each of `side_files`; of a config without what says who wrote it."""
    files = side_files(folder, code=code)
    return {f.relative_to(folder).as_posix(): _sum_of_config(f) if f.name in CONFIGS else sha256_of(f) for f in files}


def _sum_of_config(file: Path) -> str:
    try:
        return digest_of({k: v for k, v in json.loads(file.read_bytes()).items() if k not in HISTORY})
    except (ValueError, AttributeError):  # whoever reads it will say what is wrong
        return sha256_of(file)


@contextmanager
def whole_weights() -> Iterator[None]:
    """Within the block transformers makes and loads whole models in this process, also under ZeRO-3.

    There it would divide each over the ranks as it is made, and one process alone would wait for the others for ever.
    """
    from transformers.integrations import deepspeed

    config = deepspeed._hf_deepspeed_config_weak_ref
    deepspeed.unset_hf_deepspeed_config()
    try:
        yield
    finally:
        deepspeed._hf_deepspeed_config_weak_ref = config

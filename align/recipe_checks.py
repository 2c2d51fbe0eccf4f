"""What no single key can know: combinations without meaning, and model folders that are not there.

Folders are looked into by hand (JSON, directory listings): no model class is imported, nothing is fetched.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import torch

from align.assets import asset, is_asset
from align.data.settings import DataSection
from align.errors import UserError, did_you_mean
from align.methods.base import Method
from align.models.settings import ModelSection
from align.models.sources import weight_files
from align.needs import Needs
from align.recipe_text import Written
from align.training.settings import OptimSection, TrainingSection

SCHEDULES = (
    "linear", "cosine", "cosine_with_restarts", "polynomial", "constant", "constant_with_warmup", "inverse_sqrt",
)  # fmt: skip
OPTIMISERS_OF_TRANSFORMERS = ("Adafactor",)
LEARNED_POSITIONS = ("gpt2", "gpt_bigcode", "gpt_neo", "openai-gpt", "opt", "biogpt", "ctrl")
TRACKERS = ("tensorboard", "wandb", "trackio")
KEEP_ONE = "keep one of them (key=null on the command line takes a recipe's own away)"
HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")


def check_combinations(written: Written, cls: type[Method[Any]] | None, sections: dict[str, Any]) -> None:
    needs = cls.needs() if cls else None
    if (training := sections["training"]) is not None:
        _training(written, training, cls)
        if sections["data"] is not None:
            _evaluation(written, training, sections["data"])
    if sections["optim"] is not None:
        _optim(written, sections["optim"])
    if sections["model"] is not None:
        _model(written, sections["model"])
        if needs is not None and cls is not None:
            _reference(written, sections["model"], needs, cls.name)
            if sections["model"].critic and not any("values" in needs.live(m) for m in needs.members):
                written.wrong("model.critic", f"{cls.name} has no critic; remove the section")
    if sections["data"] is not None and not sections["data"].train:
        written.wrong("data.train", "missing; name a file of rows, a hub data set, asset:NAME, or a list of sources")
    if (logging := sections["logging"]) is None:
        return
    if cls and writes_nothing(cls.needs()) and written.has("logging.num_completions") and logging.num_completions:
        written.wrong("logging.num_completions", f"{cls.name} trains a scalar head, which writes nothing; set it to 0")
    for tracker in logging.report_to:
        if tracker not in TRACKERS:
            hint = did_you_mean(tracker, TRACKERS)
            written.wrong("logging.report_to", f"no such tracker: {tracker}; there are {', '.join(TRACKERS)}.{hint}")


def writes_nothing(needs: Needs) -> bool:
    """A scalar head is trained in the place of the language-model head."""
    return any("scores" in needs.live(m) for m in needs.members)


def _training(written: Written, t: TrainingSection, cls: type[Method[Any]] | None) -> None:
    if t.per_device_train_batch_size and written.has("training.batch_size"):
        written.wrong(
            "training.per_device_train_batch_size",
            f"conflicts with batch_size: {t.batch_size}; batch_size is per_device_train_batch_size x "
            "gradient_accumulation_steps x world size already, so keep one of them",
        )
    if t.gradient_accumulation_steps and not t.per_device_train_batch_size:
        written.wrong(
            "training.gradient_accumulation_steps",
            "stands alone; batch_size counts a whole optimiser step, and max_tokens divides it into micro-batches",
        )
    if cls and not t.per_device_train_batch_size and t.batch_size < cls.smallest_batch:
        written.wrong(
            "training.batch_size",
            f"found {t.batch_size}; {cls.name} compares rows of a step and needs {cls.smallest_batch} or more",
        )
    if t.max_steps and written.has("training.num_train_epochs"):
        written.wrong("training.max_steps", f"conflicts with num_train_epochs: {t.num_train_epochs}; {KEEP_ONE}")
    if not t.max_steps and t.num_train_epochs == 0:
        written.wrong("training.num_train_epochs", "found 0 with max_steps 0: nothing would be trained")


def _evaluation(written: Written, t: TrainingSection, data: DataSection) -> None:
    held_out = bool(data.validation)
    if t.eval_steps and not held_out:
        written.wrong("training.eval_steps", "needs data.validation: a source, or a share of the prompts such as 0.1")
    for key in ("load_best_model_at_end", "early_stopping_patience"):
        if not getattr(t, key):
            continue
        if not held_out:
            written.wrong(
                f"training.{key}", "needs data.validation to compare evaluations on; test is never used for it"
            )
        if not t.eval_steps:
            written.wrong(
                f"training.{key}", "needs training.eval_steps above 0: one evaluation at the end leaves no choice"
            )
    shares = sum(s for s in (data.validation, data.test) if not isinstance(s, str) and s < 1)
    if shares >= 1:
        written.wrong("data.test", f"validation {data.validation} and test {data.test} leave no row to train on")


def _optim(written: Written, o: OptimSection) -> None:
    if o.warmup_ratio and o.warmup_steps:
        written.wrong("optim.warmup_steps", f"conflicts with warmup_ratio: {o.warmup_ratio}; {KEEP_ONE}")
    if o.lr_scheduler_type not in SCHEDULES:
        hint = did_you_mean(o.lr_scheduler_type, SCHEDULES)
        written.wrong(
            "optim.lr_scheduler_type",
            f"no such schedule: {o.lr_scheduler_type}; there are {', '.join(SCHEDULES)}.{hint}",
        )
    if o.lr_scheduler_type == "constant" and (o.warmup_ratio or o.warmup_steps):
        written.wrong(
            "optim.lr_scheduler_type", "constant has no warm-up; say constant_with_warmup, or drop the warm-up"
        )
    known = [
        n
        for n in dir(torch.optim)
        if isinstance(c := getattr(torch.optim, n), type) and issubclass(c, torch.optim.Optimizer)
    ]
    known = sorted({*known, *OPTIMISERS_OF_TRANSFORMERS} - {"Optimizer", "LBFGS"})  # LBFGS wants a closure
    if o.optim not in known:
        plain = o.optim.removesuffix("_torch").removesuffix("_fused").removesuffix("_torch").lower()
        near = next((f" Did you mean {n}?" for n in known if n.lower() == plain), did_you_mean(o.optim, known))
        written.wrong("optim.optim", f"no such optimiser: {o.optim}; there are {', '.join(known)}.{near}")
    for name in ("lr", "betas", "eps", "weight_decay"):
        if name in o.optim_args:
            ours = {"lr": "learning_rate", "betas": "adam_beta1 and adam_beta2", "eps": "adam_epsilon"}.get(name, name)
            written.wrong(f"optim.optim_args.{name}", f"has a key of its own: optim.{ours}")


def _model(written: Written, m: ModelSection) -> None:
    if m.config and m.model_name_or_path:
        written.wrong(
            "model.config", "conflicts with model_name_or_path: fresh weights of a config, or pretrained ones; keep one"
        )
    if not m.config and not m.model_name_or_path:
        written.wrong("model.model_name_or_path", "missing; name a folder, a hub model or asset:NAME, or give a config")
    if m.config and "model_type" not in m.config:
        written.wrong("model.config.model_type", "missing; the transformers name of the architecture, such as llama")
    if m.config and not m.tokenizer_name_or_path:
        written.wrong("model.tokenizer_name_or_path", "missing; a model made from a config brings no tokenizer")


def _reference(written: Written, m: ModelSection, needs: Needs, method: str) -> None:
    if "ref" not in needs.roles():
        for key in ("reference", "ref_model_name_or_path"):
            if written.has(f"model.{key}") and getattr(m, key) not in ("", "auto"):
                written.wrong(f"model.{key}", f"{method} has no reference model; remove the key")
        return
    if m.reference == "adapter_off" and m.lora is None:
        written.wrong(
            "model.reference", "adapter_off needs model.lora: without an adapter there is nothing to switch off"
        )
    if m.reference == "adapter_off" and m.ref_model_name_or_path:
        written.wrong(
            "model.ref_model_name_or_path",
            "conflicts with reference: adapter_off, which is the model without its adapter",
        )


# ---- model folders --------------------------------------------------------------------------------------------------


def _nearest(path: Path) -> str:
    if not path.parent.is_dir():
        return f"; the folder {path.parent} does not exist"
    near = did_you_mean(path.name, [p.name for p in path.parent.iterdir()])
    return f".{near}" if near else ""


def hub_like(name: str) -> bool:
    """`owner/name` or `name`, and not a path below a folder that is here."""
    first, slash, _ = name.partition("/")
    return (
        bool(HUB_NAME.fullmatch(name)) and not (slash and Path(first).is_dir()) and first not in ("", ".", "..", "runs")
    )


def offline() -> bool:
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "TRUE", "YES", "ON")


def cached(name: str, kind: str) -> bool:
    home = Path(os.environ.get("HF_HOME", "~/.cache/huggingface")).expanduser()
    hub = Path(os.environ.get("HF_HUB_CACHE", home / "hub"))
    return (hub / f"{kind}--{name.replace('/', '--')}").is_dir()


def model_folder(name: str) -> Path | None:
    """The folder with config.json (or an adapter's) behind a model's name: asset, folder, run; None on the hub."""
    path = asset(name) if is_asset(name) else Path(name).expanduser()
    inside = path / "final"
    if (inside / "config.json").is_file() or (inside / "adapter_config.json").is_file():
        return inside
    return path if path.is_dir() else None


def read_config(name: str) -> dict[str, Any]:
    """config.json as it stands; empty where the model is on the hub, or the folder holds an adapter only."""
    folder = model_folder(name)
    if folder is None or not (folder / "config.json").is_file():
        return {}
    return json.loads((folder / "config.json").read_text(encoding="utf-8"))


def check_context(written: Written, m: ModelSection, max_length: int, new_tokens: int = 0) -> list[str]:
    """A row longer than the model's table of positions cannot be read; rotary positions only get worse: a note.

    `new_tokens` are those that the policy writes behind a prompt, and must leave room for one.
    """
    try:
        config = m.config or (read_config(m.model_name_or_path) if m.model_name_or_path else {})
    except (UserError, OSError, ValueError):
        return []
    config = config.get("text_config", config)
    context = next((config[k] for k in ("max_position_embeddings", "n_positions", "n_ctx") if k in config), 0)
    if isinstance(context, int) and 0 < context <= new_tokens:
        written.wrong(
            "rollout.max_completion_length",
            f"found {new_tokens}, but the model's context is {context}, prompt and completion together; set less",
        )
    if not isinstance(context, int) or not 0 < context < max_length:
        return []
    if config.get("model_type") in LEARNED_POSITIONS:
        table = f"{config['model_type']} has a table of {context} positions"
        written.wrong("data.max_length", f"found {max_length}, but {table}; set {context} or less")
        return []
    return [
        f"data.max_length: {max_length} is more than the {context} positions that the model was made for; longer rows "
        f"are outside its context. Set data.max_length={context} to keep them out"
    ]


def _config_is_json(written: Written, key: str, folder: Path) -> None:
    try:
        read_config(str(folder))
    except ValueError as error:
        written.wrong(key, f"{folder / 'config.json'} is not valid JSON ({error}); save or copy the folder again")


def check_models(written: Written, m: ModelSection) -> None:
    for key in ("model_name_or_path", "ref_model_name_or_path", "tokenizer_name_or_path"):
        if name := getattr(m, key):
            _model_folder(written, f"model.{key}", name, m)
    try:
        ours = m.config or (read_config(m.model_name_or_path) if m.model_name_or_path else {})
        theirs = read_config(m.ref_model_name_or_path) if m.ref_model_name_or_path else {}
    except (UserError, OSError, ValueError):
        return
    if ours.get("vocab_size") and theirs.get("vocab_size") and ours["vocab_size"] != theirs["vocab_size"]:
        written.wrong(
            "model.ref_model_name_or_path",
            f"its vocabulary has {theirs['vocab_size']} tokens, the model's {ours['vocab_size']}; "
            "the reference must read the same token ids",
        )


def _model_folder(written: Written, key: str, name: str, m: ModelSection) -> None:
    try:
        folder = model_folder(name)
    except UserError as error:
        written.wrong(key, str(error))
        return
    if folder is None:
        if Path(name).expanduser().is_file():
            written.wrong(key, f"{name} is a file; expected a folder as transformers saves it, or a finished run's")
        elif not hub_like(name):
            written.wrong(key, f"no such folder: {name}{_nearest(Path(name).expanduser())}")
        elif offline() and not cached(name, "models"):
            written.wrong(
                key, f"no such folder: {name}; as a hub name it is not in the cache, and the hub is switched off"
            )
        return
    _config_is_json(written, key, folder)
    held = {p.name for p in folder.iterdir()} if folder.is_dir() else set()
    tokenizer = held & {"tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model"}
    if key == "model.tokenizer_name_or_path":
        if not tokenizer:
            written.wrong(key, f"{name} holds no tokenizer (tokenizer.json, tokenizer.model, ...)")
    elif not held & {"config.json", "adapter_config.json"}:
        written.wrong(key, f"{name} holds no config.json; expected a folder saved by transformers, or a finished run")
    elif key == "model.model_name_or_path" and not tokenizer and not m.tokenizer_name_or_path:
        written.wrong(key, f"{name} holds no tokenizer; name one with model.tokenizer_name_or_path")
    else:
        _weights(written, key, folder)


def _weights(written: Written, key: str, folder: Path) -> None:
    try:
        weight_files(folder)
    except UserError as error:
        written.wrong(key, str(error))

"""Model folders that a recipe names, looked into by hand (JSON, directory listings).

No model class is imported, nothing is fetched.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from align.assets import asset, is_asset
from align.errors import UserError, near_path
from align.models.settings import ModelSection
from align.models.sources import HUB_NAME, base_name, has_adapter, is_kept, kept_of, read_json, refusing, weight_files
from align.recipe.past import base_of, past_of
from align.recipe.text import Written
from align.recipe.types import show
from align.runfolder.checkpoint import is_checkpoint, verify

LEARNED_POSITIONS = ("gpt2", "gpt_bigcode", "gpt_neo", "openai-gpt", "opt", "biogpt", "ctrl")
SHAPE = ("model_type", "hidden_size", "n_embd", "num_hidden_layers", "n_layer", "intermediate_size", "vocab_size")
CONTEXT = ("max_position_embeddings", "n_positions", "n_ctx")
LAYERS = ("num_hidden_layers", "n_layer")
SIZES = ("vocab_size", "hidden_size", "n_embd", "d_model")
BY_LAYER = (
    *("num_attention_heads", "n_head", "num_key_value_heads", "head_dim", "intermediate_size", "n_inner", "ffn_dim"),
    *("num_local_experts", "num_experts"),
)
MOST, MOST_LAYERS = 2**31 - 1, 10_000


def _nearest(path: Path) -> str:
    if not path.parent.is_dir():
        return f"; its folder {path.parent}/ does not exist"
    return near_path(path)


def hub_like(name: str) -> bool:
    """`owner/name` or `name`, perhaps with `@revision`, and not a path below a folder that is here."""
    first, slash, _ = name.partition("/")
    return (
        bool(HUB_NAME.fullmatch(name)) and not (slash and Path(first).is_dir()) and first not in ("", ".", "..", "runs")
    )


def offline() -> bool:
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "TRUE", "YES", "ON")


def cached(name: str, kind: str) -> bool:
    home = Path(os.environ.get("HF_HOME", "~/.cache/huggingface")).expanduser()
    hub = Path(os.environ.get("HF_HUB_CACHE", home / "hub"))
    repo, _, revision = name.partition("@")
    folder = hub / f"{kind}--{repo.replace('/', '--')}"
    known = not revision or (folder / "refs" / revision).exists() or (folder / "snapshots" / revision).is_dir()
    return folder.is_dir() and known


def model_folder(name: str) -> Path | None:
    """The folder with config.json (or an adapter's) behind a model's name: asset, folder, run; None on the hub.

    Of a checkpoint that no model folder was made of yet it is the one that its run began with.
    """
    path = asset(name) if is_asset(name) else Path(name).expanduser()
    if is_kept(path):
        return kept_of(path)
    if is_checkpoint(path):
        return model_folder(base) if (base := base_of(path.parent.parent)) else None
    inside = path / "final"
    if (inside / "config.json").is_file() or (inside / "adapter_config.json").is_file():
        return inside
    return path if path.is_dir() else None


def whole_folder(name: str) -> Path | None:
    """The same, of an adapter's base: the folder that has a model's config and all of its weights."""
    folder = model_folder(name)
    if folder is None or (folder / "config.json").is_file() or not has_adapter(folder):
        return folder
    base = base_name(folder)
    return model_folder(base) if base else None


def adapted(model: ModelSection) -> bool:
    """Whether an adapter is trained, as far as can be seen here: one on the hub is known when it is fetched."""
    folder = model_folder(model.model_name_or_path) if model.model_name_or_path else None
    return model.lora is not None or (folder is not None and has_adapter(folder))


def read_config(name: str) -> dict[str, Any]:
    """config.json as it stands, of an adapter its base's; empty where the model is on the hub."""
    folder = whole_folder(name)
    if folder is None or not (folder / "config.json").is_file():
        return {}
    found = read_json(path := folder / "config.json")
    refuse_odd(found, str(path))
    return found


def refuse_odd(config: dict[str, Any], where: str) -> None:
    """UserError naming a size in a config that can be none. Lists of them are one for each layer."""
    inner = config.get("text_config", {})
    if not isinstance(inner, dict):
        raise UserError(f"{where}: text_config: found {show(inner)}; expected the language model's own config")
    for key, value in {**config, **inner}.items():
        each = value if isinstance(value, list) and key in BY_LAYER else [value]
        most = MOST_LAYERS if key in LAYERS else MOST
        least = 0 if "experts" in key else 1
        odd = [v for v in each if type(v) is not int or not least <= v <= most]
        if key in (*SIZES, *BY_LAYER, *LAYERS, *CONTEXT) and value is not None and odd:
            expected = f"expected a whole number from {least} to {most:,}"
            raise UserError(f"{where}: {key}: found {show(odd[0])[:80]}; {expected}")


def num_tokens(name: str) -> int:
    """The size of the vocabulary in a folder's tokenizer.json; 0 where there is no such file here."""
    folder = model_folder(name) if name else None
    if folder is None or not (folder / "tokenizer.json").is_file():
        return 0
    held = read_json(path := folder / "tokenizer.json")
    with refusing(f"{path}: is not a tokenizer as transformers saves it"):
        vocabulary = held.get("model", {}).get("vocab", {})
        ids = set(vocabulary.values()) if isinstance(vocabulary, dict) else set(range(len(vocabulary)))
        return len(ids | {token["id"] for token in held.get("added_tokens", ())})


def check_context(written: Written, m: ModelSection, max_length: int, new_tokens: int = 0) -> list[str]:
    """A row longer than the model's table of positions cannot be read; rotary positions only get worse: a note.

    `new_tokens` are those that the policy writes behind a prompt, and must leave room for one.
    """
    try:
        config = m.config or (read_config(m.model_name_or_path) if m.model_name_or_path else {})
        refuse_odd(config, "model.config")
    except (UserError, OSError, ValueError):
        return []
    config = config.get("text_config", config)
    context = next((config[k] for k in CONTEXT if k in config), 0)
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


def _config_is_right(written: Written, key: str, folder: Path) -> None:
    try:
        read_config(str(folder))
        if has_adapter(folder):
            read_json(folder / "adapter_config.json")
    except UserError as error:
        written.wrong(key, str(error))


def check_models(written: Written, m: ModelSection) -> None:
    own = {key: getattr(m, key) for key in ("model_name_or_path", "tokenizer_name_or_path")}
    for key, name in (own | m.others()).items():
        if name or key.startswith("roles."):
            _model_folder(written, f"model.{key}", name, m)
    try:
        refuse_odd(m.config, "model.config")
    except UserError as error:
        written.wrong("model.config", str(error).removeprefix("model.config: "))
    try:
        ours = m.config or (read_config(m.model_name_or_path) if m.model_name_or_path else {})
        configs = {f"model.{key}": read_config(name) for key, name in m.others().items()}
    except (UserError, OSError, ValueError):
        return
    _not_quantised(written, m, ours)
    _in_4bit(written, m)
    for key, config in configs.items():
        _same_tokens(written, key, ours, config)
    _same_shape(written, {key: config for key, config in configs.items() if "soup" in key and config})


def _not_quantised(written: Written, m: ModelSection, config: dict[str, Any]) -> None:
    if isinstance(found := config.get("quantization_config"), dict):
        kind = found.get("quant_method") or found.get("quant_algo") or "of an unknown kind"
        written.wrong(
            "model.config" if m.config else "model.model_name_or_path",
            f"its weights are quantised ({kind}), and are not trained here, nor beneath an adapter; take the model "
            "in bfloat16 or float32",
        )


def _in_4bit(written: Written, m: ModelSection) -> None:
    """Weights of 4 bits do not learn; an adapter above them does."""
    if not m.load_in_4bit:
        for key in ("bnb_4bit_quant_type", "bnb_4bit_use_double_quant"):
            if getattr(m, key) != getattr(ModelSection(), key):
                written.wrong(f"model.{key}", "has no effect without model.load_in_4bit; set that, or remove the key")
        return
    if not adapted(m):
        written.wrong("model.load_in_4bit", "weights of 4 bits do not learn; train an adapter on them: model.lora={}")
    if m.lora is not None and m.lora.use_dora:
        written.wrong("model.lora.use_dora", "its magnitudes are those of exact weights; leave out model.load_in_4bit")


def _same_tokens(written: Written, key: str, ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    if ours.get("vocab_size") and theirs.get("vocab_size") and ours["vocab_size"] != theirs["vocab_size"]:
        written.wrong(
            key,
            f"its vocabulary has {theirs['vocab_size']} tokens, the model's {ours['vocab_size']}; "
            f"{'a role' if '.roles.' in key else 'the reference'} must read the same token ids",
        )


def _same_shape(written: Written, configs: dict[str, dict[str, Any]]) -> None:
    """Models whose weights are averaged have the same parameters; an adapter's folder has no config to compare."""
    first, *others = configs.values() or [{}]
    for key, config in zip(list(configs)[1:], others, strict=True):
        if odd := next((word for word in SHAPE if first.get(word) != config.get(word)), ""):
            found = f"its {odd} is {config.get(odd)}, the first model's {first.get(odd)}"
            written.wrong(key, f"{found}; average models of one architecture, trained from the same weights")


def _model_folder(written: Written, key: str, name: str, m: ModelSection) -> None:
    if is_checkpoint(path := Path(name).expanduser()):
        _checkpoint(written, key, path)
        return
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
                key,
                f"no such folder: {name}; as a hub name it is not in the cache, and the hub is switched off"
                f"{near_path(Path(name))}",
            )
        return
    _config_is_right(written, key, folder)
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


def _checkpoint(written: Written, key: str, path: Path) -> None:
    """Its files are looked at, and not read: that is done when a model is made of it."""
    try:
        past_of(path.parent.parent)
    except UserError as error:
        written.wrong(key, str(error))
    if problems := verify(path, sums=False):
        written.wrong(key, f"{path} is damaged: {'; '.join(problems[:3])}; take another checkpoint")


def _weights(written: Written, key: str, folder: Path) -> None:
    try:
        weight_files(folder)
    except UserError as error:
        written.wrong(key, str(error))

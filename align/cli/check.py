"""`align check`: the resolved recipe, the arithmetic of its batches and steps, and what it will ask of the memory.

Sizes come from config.json and from the headers of the safetensors files, read by hand; no weights are loaded.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil, prod
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from align.errors import Findings, UserError
from align.methods.base import OnlineMethod
from align.monitors.trackers import check_trackers
from align.needs import copies_of
from align.recipe.load import Recipe
from align.recipe.look_at_data import first_told, train_rows
from align.recipe.look_at_models import model_folder, num_tokens, read_config
from align.recipe.look_at_rows import look_at_rows
from align.recipe.online import is_online
from align.recipe.steps import count_steps, steps_of_experience
from align.runfolder.folder import RunFolder
from align.scoring.role_table import REFERENCE, loaded, maker
from align.system.machine import unwritable
from align.training.settings import CPU_MICRO_BATCH, MICRO_BATCH

FP32 = 4  # bytes
MOMENTS = {
    "AdamW": 2, "Adam": 2, "NAdam": 2, "RAdam": 2, "Adamax": 2, "SGD": 0, "Adafactor": 0, "Muon": 1,
}  # fmt: skip  # per weight
EXAMPLE_RANKS = 8
UNREAD = (
    "rows beyond those above, lengths in tokens, the chat template, what is held out, the model behind its config. "
    "`align check --all` prepares the data as the run will, and makes the model without its weights"
)
UNSEEN = "what takes weights, a GPU, several processes or a live server; the run begins with it"
AS_IT_IS: dict[str, Any] = {"markup": False, "highlight": False, "soft_wrap": True}


@dataclass(frozen=True)
class Size:
    """A model as far as memory goes."""

    weights: int
    trained: int
    vocabulary: int
    hidden: int
    layers: int


def say(recipe: Recipe, console: Console, *, whole: bool = False) -> None:
    """Prints all of it. `whole` prepares the data and makes the models empty, as a run does, which takes its time.

    Mistakes with what a run would be refused for.
    """
    mistakes = check_trackers(recipe.logging.report_to)
    if reason := unwritable(recipe.output_dir):
        mistakes.append(f"training.output_dir: {recipe.output_dir}: cannot be written: {reason}; choose another place")
    looked, told = _looked_at(recipe, mistakes, whole=whole)
    from rich.syntax import Syntax  # a quarter of a second

    text = recipe.to_yaml().rstrip()
    console.print(Syntax(text, "yaml", background_color="default") if console.is_terminal else text, **AS_IT_IS)
    for note in (*recipe.notes, *told):
        console.print(f"note: {note}", **AS_IT_IS)
    if RunFolder(recipe.output_dir).used:
        console.print(f"note: {recipe.output_dir} holds a run already, which goes on by --resume alone", **AS_IT_IS)
    for line in (*(f"data: {line}" for line in looked), *batch_lines(recipe), *memory_lines(recipe)):
        console.print(line, **AS_IT_IS)
    if size := model_size(recipe):
        console.print(memory_table(recipe, size))
    console.print(f"not looked at: {UNSEEN if whole else UNREAD}", **AS_IT_IS)
    console.print(f"{recipe.name}: no mistakes found", **AS_IT_IS)


def _looked_at(recipe: Recipe, mistakes: list[str], *, whole: bool) -> tuple[list[str], list[str]]:
    """Lines about the data, and notes."""
    if whole:
        from align.cli.check_all import look_at_all  # imports for seconds

        return look_at_all(recipe, mistakes)
    found = Findings(mistakes)
    looked: list[str] = []
    with found:
        looked += look_at_rows(recipe.data, recipe.method.needs())
    found.tell()
    return looked, list(first_told(recipe.data, recipe.method.needs()))


# ---- arithmetic -----------------------------------------------------------------------------------------------------


def batch_lines(recipe: Recipe) -> Iterator[str]:
    if is_online(type(recipe.method)):
        yield from online_lines(recipe)
        return
    t, needs = recipe.training, recipe.method.needs()
    yield (
        f"batch: {t.batch_size} groups of {needs.batch.kind} a step over all ranks, {(n := len(needs.members))} "
        f"sequence{'s' if n > 1 else ''} each; micro-batches of {t.max_tokens or MICRO_BATCH} tokens a rank"
        + ("" if t.max_tokens else f" ({CPU_MICRO_BATCH} on a CPU)")
    )
    if (n := t.num_minibatches) > 1:
        yield f"experience: {n * t.batch_size} groups, learned from in {n} steps of {t.batch_size}"
    rows = train_rows(recipe.data)
    if rows is None:
        yield f"steps: {t.max_steps}" if t.max_steps else "steps: known when the data set has been fetched"
        return
    rows *= 2 if needs.batch.kind == "unpaired" and _holds_pairs(recipe) else 1  # a pair is taken apart into two rows
    steps, some = count_steps(recipe, rows), "(fewer where some are dropped)"
    yield f"steps: {steps}, {steps * t.batch_size / rows:.2f} epochs of about {rows} rows {some}"
    yield f"evaluations: {_times(steps, t.eval_steps)}; checkpoints: {_times(steps, t.save_steps)}"


def online_lines(recipe: Recipe) -> Iterator[str]:
    t, r = recipe.training, recipe.rollout
    prompts = r.num_prompts or t.batch_size
    per_experience = steps_of_experience(recipe)
    waiting = f" of {r.max_rows + r.waiting_rows}" if r.waiting_rows else ""
    yield (
        f"experience: {prompts} prompts x {r.num_generations} completions of up to {r.max_completion_length} tokens, "
        f"written by {r.engine} engine, {r.max_rows} at once{waiting} on each rank; learned from in {per_experience} "
        f"step{'s' if per_experience > 1 else ''} of {t.batch_size} prompts"
    )
    rows = train_rows(recipe.data)
    if rows is None:
        yield f"steps: {t.max_steps}" if t.max_steps else "steps: known when the data set has been fetched"
        return
    steps = count_steps(recipe, rows)
    written = ceil(steps / per_experience) * prompts
    total = written * r.num_generations
    yield f"steps: {steps}; completions written: {total}, of {written} prompts ({rows} in the data)"
    yield from _not_counted(recipe)
    if recipe.method.rounds:
        yield f"rounds: {steps // per_experience} of {per_experience} steps, each with an evaluation at its end"
    yield f"evaluations: {_times(steps, t.eval_steps)}; checkpoints: {_times(steps, t.save_steps)}"


def _not_counted(recipe: Recipe) -> Iterator[str]:
    """What is written of an experience beside the completions of its prompts, whose number nobody knows before."""
    method, rollout = recipe.method, recipe.rollout
    if isinstance(method, OnlineMethod) and method.resamples():
        yield f"  and those that {method.name} asks for in view of these (the metric `auxiliary` tells how many)"
    if rollout.max_refills:
        yield f"  and up to {rollout.max_refills} times as many, where too few prompts are left to learn from"
    if rollout.window:
        yield f"  (or parts of completions: {rollout.window} tokens at most are written of one in an experience)"
    if rollout.audit:
        yield "  and those of the audits, which are never learned from"


def _times(steps: int, every: int) -> str:
    return f"{ceil(steps / every)}, every {every} steps and at the end" if every else "1, at the end"


def _holds_pairs(recipe: Recipe) -> bool:
    mapped = recipe.data.columns
    return "chosen" in mapped or not ({"label", "completion"} & set(mapped))


# ---- memory ---------------------------------------------------------------------------------------------------------


def model_size(recipe: Recipe) -> Size | None:
    """None where the model is on the hub and not here."""
    config = recipe.model.config or read_config(recipe.model.model_name_or_path)
    if not config:
        return None
    config = config.get("text_config", config)
    hidden, layers = _first(config, "hidden_size", "n_embd", "d_model"), _first(config, "num_hidden_layers", "n_layer")
    known = _first(config, "vocab_size") or num_tokens(recipe.model.tokenizer_name_or_path)
    vocabulary = known + len(recipe.model.add_tokens)
    shapes = _header_shapes(recipe) or list(_config_shapes(config, hidden, layers, vocabulary))
    total = sum(map(prod, shapes))
    trained = _adapted(recipe, config, [s for s in shapes if vocabulary not in s]) if recipe.model.lora else total
    return Size(total, trained, vocabulary, hidden, layers)


def _adapted(recipe: Recipe, config: dict[str, Any], shapes: list[list[int]]) -> int:
    """Weights of the recipe's adapter. Raises UserError where it matches nothing.

    All layers of a plain model need a look at their shapes alone; else the model is made without weights, which takes
    seconds.
    """
    lora = recipe.model.lora
    assert lora is not None
    if lora.target_modules == "all-linear" and not _first(config, "num_local_experts", "num_experts"):
        return sum(lora.r * sum(s) for s in shapes if len(s) == 2)  # a matrix (out, in) gets two of rank r
    from align.models.outline import num_adapted

    scalar = any("scores" in recipe.method.needs().live(m) for m in recipe.method.needs().members)
    return num_adapted(recipe.model, "scalar" if scalar else "lm")


def _first(config: dict[str, Any], *names: str) -> int:
    found = next((config[n] for n in names if config.get(n) is not None), 0)
    return max(found) if isinstance(found, list) else found  # a list has one for each layer


def _header_shapes(recipe: Recipe) -> list[list[int]]:
    """The shapes in the folder's safetensors files; empty for fresh weights."""
    folder = model_folder(recipe.model.model_name_or_path) if recipe.model.model_name_or_path else None
    files = sorted(folder.glob("model*.safetensors")) if folder else []
    return [shape for file in files for shape in _shapes(file)]


def _shapes(file: Path) -> Iterator[list[int]]:
    """Format: 8 bytes little-endian length, then that much JSON of name -> {dtype, shape, data_offsets}."""
    try:
        with file.open("rb") as stream:
            header = json.loads(stream.read(struct.unpack("<Q", stream.read(8))[0]))
        yield from (entry["shape"] for name, entry in header.items() if name != "__metadata__")
    except (OSError, ValueError, struct.error, KeyError) as error:
        raise UserError(f"{file}: not a whole safetensors file: {error}; copy or download it again") from None


def _config_shapes(config: dict[str, Any], hidden: int, layers: int, vocabulary: int) -> Iterator[list[int]]:
    """A decoder's matrices: attention with grouped keys, a gated or plain MLP of all experts, embeddings, head."""
    heads = _first(config, "num_attention_heads", "n_head") or 1
    head = _first(config, "head_dim") or hidden // heads
    groups = _first(config, "num_key_value_heads") or heads
    inner = _first(config, "intermediate_size", "n_inner", "ffn_dim") or 4 * hidden
    experts = _first(config, "num_local_experts", "num_experts") or 1
    gated = config.get("model_type") not in ("gpt2", "gpt_neox", "opt", "bloom", "falcon", "phi")
    yield [vocabulary, hidden]
    if not config.get(
        "tie_word_embeddings", config.get("model_type") in ("gpt2", "gemma", "gemma2", "gemma3_text", "opt")
    ):
        yield [vocabulary, hidden]
    for _ in range(layers):
        yield from ([heads * head, hidden], [groups * head, hidden], [groups * head, hidden], [hidden, heads * head])
        yield from [[inner, hidden], [hidden, inner]] * experts + [[inner, hidden]] * (experts if gated else 0)
        yield from ([hidden], [hidden])


def memory_lines(recipe: Recipe) -> Iterator[str]:
    size = model_size(recipe)
    if size is None:
        yield "memory: not estimated; the model is not here yet"
        return
    share = f", {size.trained:,} of them trained" if size.trained != size.weights else ""
    yield f"model: {size.weights:,} weights{share}; {size.layers} layers of width {size.hidden}"
    yield f"vocabulary: {size.vocabulary:,} tokens"


def parts(recipe: Recipe, size: Size) -> dict[str, tuple[int, int]]:
    """Bytes of each part on a rank, and the ZeRO stage from which ranks divide it (9: never; -3: else it is not)."""
    method, model = recipe.method.needs(), recipe.model
    width = 2 if model.dtype in ("bfloat16", "float16") else FP32
    off = model.reference == "adapter_off" or (model.reference == "auto" and model.lora is not None)
    own_copy = bool(model.ref_model_name_or_path) or not off
    beside = [role for role in loaded(recipe.method, model) if own_copy or role != REFERENCE]
    copies = {maker(role).words: 0 if model.reference == "cached" else size.weights * width for role in beside}
    scalar = any("scores" in method.live(m) for m in method.members)
    tokens = recipe.training.max_tokens or MICRO_BATCH
    moments = MOMENTS.get(recipe.optim.optim, 1)
    critic = size.weights * (width + FP32 + FP32 * moments) if model.critic else 0  # as large as the policy, or near it
    twin = size.trained * (2 * width + FP32 * moments) if recipe.method.levels() else 0
    bases = size.weights * width * (len(copies_of(recipe.method)) + bool(twin)) if model.lora else 0
    chunk = min(recipe.training.head_chunk or tokens, tokens)
    stored = 2 if recipe.training.gradient_checkpointing else 34  # activations of width `hidden` that a layer keeps
    return {
        "weights": ((size.weights + (size.trained if model.lora else 0)) * width, 3),
        "gradients": (size.trained * width, 2),
        f"{recipe.optim.optim} states": (size.trained * FP32 * moments, 1),
        **{words: (held, 3) for words, held in copies.items()},
        **{f"{role}, which follows the policy": (size.trained * width, 3) for role in copies_of(recipe.method)},
        "critic, its gradients and states": (critic, 1),
        "the policy's twin, its gradients and states": (twin, 1),
        "bases of those beside it": (bases, -3),
        "logits, with gradient": (0 if scalar else 2 * chunk * size.vocabulary * FP32, 9),
        "activations (rough)": (tokens * size.hidden * size.layers * stored * 2, 9),
    }


def memory_table(recipe: Recipe, size: Size) -> Table:
    table = Table(
        title="rough memory of one rank with full micro-batches (MB); Python and its libraries hold some 300 more",
        title_justify="left",
    )
    columns = {"1 rank or DDP": 0, f"ZeRO-2, {EXAMPLE_RANKS} ranks": 2, f"ZeRO-3 or FSDP, {EXAMPLE_RANKS} ranks": 3}
    table.add_column("")
    for name in columns:
        table.add_column(name, justify="right")
    totals = dict.fromkeys(columns, 0.0)
    for part, (held, since) in parts(recipe, size).items():
        shown = {c: held / (EXAMPLE_RANKS if n >= abs(since) else 1) * (n >= -since) for c, n in columns.items()}
        totals = {c: totals[c] + shown[c] for c in columns}
        if held:
            table.add_row(part, *(f"{v / 1e6:,.1f}" for v in shown.values()))
    table.add_section()
    table.add_row("sum", *(f"{v / 1e6:,.1f}" for v in totals.values()))
    return table

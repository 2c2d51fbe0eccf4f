"""What an adapter is put on: layers of one matrix each, and experts that stand stacked in one tensor."""

from __future__ import annotations

from collections.abc import Iterator

from peft import PeftModel
from peft.tuners.lora.layer import LoraLayer, ParamWrapper
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from align.errors import UserError
from align.models.parts import unwrapped
from align.models.settings import LoraSection

ALL = "all-linear"
LAYERS = (nn.Linear, Conv1D)
OTHERS = (nn.Embedding, nn.Conv1d, nn.Conv2d, nn.Conv3d)  # of which peft knows how to adapt each as a whole
MOSTLY = 0.01  # share of the weights that may be without an adapter before it is told


def targets(model: PreTrainedModel, lora: LoraSection) -> tuple[str | list[str], list[str] | None]:
    """peft's `target_modules` and `target_parameters`. UserError for names that match nothing.

    A list may name stacked experts, by the module that holds them or one by one; all-linear takes them along where peft
    can adapt them, without dropout and without DoRA.
    """
    stacks = list(stacked(model))
    plain = not lora.lora_dropout and not lora.use_dora
    if isinstance(lora.target_modules, str):
        wanted = sorted({name.rpartition(".")[2] for name in stacks}) if lora.target_modules == ALL and plain else None
        return lora.target_modules, wanted or None
    _refuse_unknown(model, lora.target_modules, stacks)
    held = {name: [s for s in stacks if _ends(s, name) or _ends(s.rpartition(".")[0], name)]
            for name in lora.target_modules}  # fmt: skip
    found = sorted({".".join(s.split(".")[-2:]) for of in held.values() for s in of})
    if found and not plain:
        raise UserError(
            f"model.lora: {', '.join(found)} are stacked experts, which peft adapts without lora_dropout and use_dora "
            "only; set them to 0 and false, or leave the experts out of target_modules"
        )
    return [name for name in lora.target_modules if not held[name]], found or None


def stacked(model: nn.Module) -> Iterator[str]:
    """Names of weights of three dimensions, one matrix for each expert."""
    for name, module in model.named_modules():
        if not isinstance(module, (*LAYERS, *OTHERS)):
            for leaf, p in module.named_parameters(recurse=False):
                if len(getattr(p, "ds_shape", p.shape)) == 3:
                    yield f"{name}.{leaf}"


def linear_names(model: nn.Module) -> list[str]:
    """Last parts of the names of all linear layers: what `target_modules` may list."""
    linear = (name for name, module in model.named_modules() if isinstance(module, LAYERS))
    return sorted({name.rpartition(".")[2] for name in linear})


def _refuse_unknown(model: nn.Module, names: list[str], stacks: list[str]) -> None:
    """peft is content where one name of a list matches."""
    there = [*(name for name, _ in model.named_modules()), *stacks]
    unknown = [name for name in names if not any(_ends(one, name) for one in there)]
    if unknown:
        raise UserError(no_match(", ".join(unknown), type(model).__name__, linear_names(model)))


def no_match(found: str, kind: str, there: list[str]) -> str:
    return (
        f"model.lora.target_modules: {found} matches nothing in {kind}; it has {', '.join(there)}, or write {ALL}"
    )


def _ends(name: str, end: str) -> bool:
    return name == end or name.endswith(f".{end}")


def refuse_tied_head(model: PeftModel) -> None:
    """An adapter on a head that is the embedding table, or on the table, would change both or be lost by a merge."""
    inner = unwrapped(model)
    table, head = inner.get_input_embeddings(), inner.get_output_embeddings()
    if head is None or _weight(table) is not _weight(head):
        return
    if isinstance(table, LoraLayer) or isinstance(head, LoraLayer):
        raise UserError(
            "model.lora.target_modules: the head is the embedding table (tie_word_embeddings), and an adapter on one "
            "of the two cannot be merged; leave lm_head and the embeddings out"
        )


def _weight(module: nn.Module) -> Tensor:
    return getattr(module.get_base_layer() if isinstance(module, LoraLayer) else module, "weight")  # noqa: B009


def refuse_sharded_experts(model: nn.Module, sharding: str) -> None:
    """UserError where adapted stacks would be divided over the ranks while they are put together."""
    if sharding in ("zero3", "fsdp2") and any(isinstance(m, ParamWrapper) for m in model.modules()):
        raise UserError(
            f"model.lora: adapters on stacked experts do not work under {sharding}; take ddp or zero2, or list "
            "model.lora.target_modules without the experts"
        )


def left_out(model: PeftModel) -> tuple[float, list[str]]:
    """The share of the base's matrices, embeddings and head apart, without an adapter; and their names' last parts."""
    inner = unwrapped(model)
    apart = {id(p) for part in (inner.get_input_embeddings(), inner.get_output_embeddings()) if part
             for p in part.parameters()}  # fmt: skip
    adapted: set[int] = set()
    for module in inner.modules():
        if isinstance(module, ParamWrapper):
            adapted.add(id(module.get_param()))
        elif isinstance(module, LoraLayer):
            adapted |= {id(p) for p in module.get_base_layer().parameters()}
    total = without = 0
    names: dict[str, None] = {}
    for name, p in inner.named_parameters():
        if p.requires_grad or p.ndim < 2 or id(p) in apart or name.endswith("bias"):
            continue
        total += p.numel()
        if id(p) not in adapted:
            without += p.numel()
            plain = name.replace(".base_layer", "").removesuffix(".weight")
            names[".".join(plain.split(".")[-2:])] = None
    return without / max(total, 1), list(names)


def notes_of(model: nn.Module, lora: LoraSection | None) -> list[str]:
    """What to say of a new adapter that leaves out more than it seems."""
    if lora is None or lora.target_modules != ALL or not isinstance(model, PeftModel):
        return []
    share, names = left_out(model)
    if share <= MOSTLY:
        return []
    why = " (peft adapts stacked experts without lora_dropout and use_dora only)" if list(stacked(model)) else ""
    return [f"model.lora: {100 * share:.0f} % of the weights have no adapter: {', '.join(names[:6])}{why}"]

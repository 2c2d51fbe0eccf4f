"""Models that are never trained: a copy, an average of several, or the trained one with its adapter switched off."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from torch import nn
from transformers import PreTrainedTokenizerFast

from align.errors import UserError
from align.models.embeddings import check_same_vocabulary
from align.models.load import Device, Where, load_policy, where
from align.models.settings import ModelSection, SoupSection
from align.models.sources import folder_fingerprint
from align.models.tokenizer import Head, read_tokenizer, source_of


def frozen_copy(
    section: ModelSection, tokenizer: PreTrainedTokenizerFast, head: Head, init_dir: Path, device: Device = None,
    key: str = "ref_model_name_or_path",
) -> Any:  # fmt: skip
    """The weights that training starts from, those of `ref_model_name_or_path`, or an average; eval mode, no gradient.

    A new adapter adds nothing yet and is left out; one that came with the folder is part of the model. On `meta` no
    weight is read. Raises UserError, also where another model (the recipe's `key` names it) has another vocabulary.
    """
    if isinstance(section.reference, SoupSection):
        return freeze(_soup(section, section.reference, tokenizer, "meta" if device == "meta" else None))
    wanted = _wanted(section, tokenizer, key)
    return freeze(load_policy(wanted, tokenizer, head, init_dir, device))


def _soup(section: ModelSection, soup: SoupSection, tokenizer: PreTrainedTokenizerFast, device: Device) -> Any:
    def load(name: str) -> Any:
        one = dataclasses.replace(section, reference="copy", ref_model_name_or_path=name)
        model = load_policy(_wanted(one, tokenizer, "reference.soup"), tokenizer, "lm", Path(), device)
        return model.merge_and_unload() if isinstance(model, PeftModel) else model

    shares = soup.weights or [1 / len(soup.soup)] * len(soup.soup)
    return averaged(((name, load(name)) for name in soup.soup), shares)


@torch.no_grad()
def averaged(models: Iterable[tuple[str, nn.Module]], shares: Sequence[float]) -> nn.Module:
    """The first model, holding sum_m share_m * weights_m; computed in float32 at least, one model beside it at a time.

    Models that are equal give themselves, bit for bit. Buffers stay the first one's. Raises UserError naming the
    model whose parameters have other names or shapes.
    """
    made: nn.Module | None = None
    done, dtypes = 0.0, dict[str, torch.dtype]()
    for (name, model), share in zip(models, shares, strict=True):
        done += share
        if made is None:
            made, dtypes = model, {key: p.dtype for key, p in model.named_parameters()}
            for parameter in made.parameters():
                parameter.data = parameter.data.to(torch.promote_types(parameter.dtype, torch.float32))
        elif done > 0:
            _mix(made, name, model, share / done)
    assert made is not None, "a soup of nothing"
    for key, parameter in made.named_parameters():
        parameter.data = parameter.data.to(dtypes[key])
    return made


def _mix(made: nn.Module, name: str, model: nn.Module, share: float) -> None:
    ours, theirs = dict(made.named_parameters()), dict(model.named_parameters())
    shapes = ({key: tuple(p.shape) for key, p in of.items()} for of in (ours, theirs))
    if odd := [key for key, _ in sorted(set.symmetric_difference(*(set(of.items()) for of in shapes)))]:
        which = ", ".join(list(dict.fromkeys(odd))[:4])
        raise UserError(
            f"model.reference.soup: {name} has other parameters than the first model ({which}); average models of one "
            "architecture, trained from the same weights"
        )
    for key, parameter in ours.items():
        parameter.data = torch.lerp(parameter.data, theirs[key].data.to(parameter.dtype), share)


def _wanted(section: ModelSection, tokenizer: PreTrainedTokenizerFast, key: str) -> ModelSection:
    """The reference as a model to be loaded; `key` names it. UserError where its vocabulary is another."""
    other = section.ref_model_name_or_path
    wanted = dataclasses.replace(section, lora=None)
    if other:
        wanted = dataclasses.replace(
            wanted, model_name_or_path=other, ref_model_name_or_path="", config={}, tokenizer_name_or_path="",
            load_in_4bit=False,
        )  # fmt: skip
        theirs = read_tokenizer(source_of(wanted), section.trust_remote_code)
        wanted = dataclasses.replace(wanted, add_tokens=[])
        check_same_vocabulary(tokenizer, theirs, f"model.{key}: {other}")
    return wanted


def model_in(folder: str, tokenizer: PreTrainedTokenizerFast, head: Head = "lm") -> Any:
    """The model of a folder (or hub name, or asset:NAME) by itself, which nobody trains; eval mode, no gradient."""
    return freeze(load_policy(ModelSection(model_name_or_path=folder), tokenizer, head, Path()))


def freeze(model: nn.Module) -> Any:
    """The same module in eval mode, without gradients."""
    return model.eval().requires_grad_(False)


@contextmanager
def adapter_off(model: nn.Module) -> Iterator[None]:
    """Within the block the model, wrapped for training or not, computes without its adapter.

    Which parameters are trained, and train mode, are afterwards as before.
    """
    wrapped = next((m for m in model.modules() if isinstance(m, PeftModel)), None)
    assert wrapped is not None, "there is no adapter to switch off"
    trained = {name: p.requires_grad for name, p in wrapped.named_parameters()}
    try:
        with wrapped.disable_adapter():
            yield
    finally:
        for name, p in wrapped.named_parameters():
            p.requires_grad_(trained[name])


# ---- which they are -------------------------------------------------------------------------------------------------


def reference_weights(section: ModelSection) -> str:
    """The fingerprints of the frozen models that the recipe names; a run that is resumed must find them again.

    UserError, which names the recipe's key, where one is not there.
    """
    return "".join(folder_fingerprint(places.adapter or places.weights) for places in references(section).values())


def references(section: ModelSection) -> dict[str, Where]:
    """Key of the section -> where the frozen model lies that it names. UserError where one is not there."""
    found: dict[str, Where] = {}
    for key, name in section.others().items():
        try:
            found[key] = where(dataclasses.replace(section, model_name_or_path=name, config={}), Path())
        except UserError as error:
            raise UserError(f"model.{key}: {error}") from None
    return found

"""Vocabulary and embedding rows: whether they fit together, and rows for new tokens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from align.errors import UserError


def num_rows(model: PreTrainedModel) -> int:
    weight: Any = model.get_input_embeddings().weight
    return int(getattr(weight, "ds_shape", weight.shape)[0])


def check_vocabulary(tokenizer: PreTrainedTokenizerFast, rows: int, added: Sequence[int], place: str) -> None:
    """UserError if the tokenizer has tokens, the added ones apart, that a model with `rows` embeddings cannot read."""
    beyond = {i: t for t, i in tokenizer.get_vocab().items() if i >= rows and i not in added}
    if beyond:
        first = min(beyond)
        raise UserError(
            f"{place}: has {rows} embeddings, but {len(beyond)} tokens of the tokenizer {tokenizer.name_or_path} "
            f"lie beyond, the first {beyond[first]!r} ({first}); take the model's own tokenizer, or name new tokens in "
            "model.add_tokens"
        )


def check_same_vocabulary(ours: PreTrainedTokenizerFast, theirs: PreTrainedTokenizerFast, place: str) -> None:
    """UserError if another role's tokenizer lacks a token of the policy's or writes it with another id."""
    known = theirs.get_vocab()
    wrong = sorted((i, t) for t, i in ours.get_vocab().items() if known.get(t) != i)
    if wrong:
        i, token = wrong[0]
        found = f"is {known[token]}" if token in known else "is missing"
        raise UserError(
            f"{place}: its vocabulary is not the policy's: {len(wrong)} tokens differ, the first {token!r} is {i} "
            f"for the policy and {found} there; policy and reference must share one tokenizer"
        )


def add_rows(model: PreTrainedModel, ids: Sequence[int]) -> None:
    """Gives the tokens `ids` embedding rows (and head rows) that are the mean of the rows before the first of them.

    The table grows where it must; rows that lie spare beyond the tokenizer are used first. Deterministic.
    """
    if not ids:
        return
    first = min(ids)
    if max(ids) >= num_rows(model):
        model.resize_token_embeddings(max(ids) + 1, mean_resizing=False)
    head: Any = model.get_output_embeddings()
    tables: list[Any] = [model.get_input_embeddings().weight]
    if head is not None and head.weight is not tables[0]:
        tables.append(head.weight)
    if head is not None and getattr(head, "bias", None) is not None:
        tables.append(head.bias)
    with torch.no_grad():
        for table in tables:
            with gathered(table):
                table[list(ids)] = table[:first].float().mean(0).to(table.dtype)


@contextmanager
def gathered(parameter: Tensor) -> Iterator[None]:
    """The whole parameter within the block, also where ZeRO-3 has cut it into shards."""
    if not hasattr(parameter, "ds_id"):
        yield
        return
    import deepspeed  # pyright: ignore[reportMissingImports]

    with deepspeed.zero.GatheredParameters([parameter], modifier_rank=0):
        yield


def whole(parameter: Any) -> Tensor:
    """All of a parameter at rest on every rank, a copy; all of them ask together where it is divided."""
    with gathered(parameter):
        found = parameter.detach()
        return found.full_tensor() if hasattr(found, "full_tensor") else found.clone()


def let_pad_learn(model: nn.Module) -> None:
    """A padding index keeps one embedding row from learning; ours may be a token in use (often EOS)."""
    table = model.get_input_embeddings() if isinstance(model, PreTrainedModel) else None
    if isinstance(table, nn.Embedding):
        table.padding_idx = None

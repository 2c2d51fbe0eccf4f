"""A model's folder that writes texts, for evaluations and judges: prompts as in training, through the local engine.
It also says how likely a text is.

What is written depends on the weights, the prompt, the style and the seed of each completion, and not on what is
written beside it, but for rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from align.batches import Tokens
from align.data.reading.messages import BadRow, Text
from align.data.reading.rows import Row
from align.data.text.script import PrefixBroken, Writer
from align.data.text.special import Names
from align.data.text.template import choose_template
from align.data.text.tokens import Encoder
from align.errors import UserError
from align.models.frozen import model_in
from align.models.parts import context_of
from align.models.settings import ModelSection
from align.models.sources import folder_fingerprint, has_adapter, read_json, resolve, side_sums
from align.models.tokenizer import load_tokenizer
from align.rollout.engine import Request, Sampling
from align.rollout.local.alone import Alone
from align.system.sums import digest_of


@dataclass(frozen=True, kw_only=True)
class Style:
    """How completions are drawn, and where they end."""

    max_new_tokens: int = 512
    temperature: float = 0.0  # 0 takes the likeliest token
    top_p: float = 1.0
    top_k: int = 0  # 0 keeps all
    stop_strings: tuple[str, ...] = ()  # beside the end-of-sequence tokens; the text holds the one it ended with


@dataclass(frozen=True, kw_only=True)
class Said:
    """One completion as text."""

    text: str
    stop: str  # a StopReason: eos, stop_string, length
    num_tokens: int


def identity_of(name: str) -> dict[str, str]:
    """What a model folder's answers depend on beside the prompt: sums of its weights, and of tokenizer, template and
    configuration. Its name is not part of it. UserError where there is no such folder."""
    folder = resolve(name)
    return {"weights": folder_fingerprint(folder), "files": digest_of(side_sums(folder))}


class FolderWriter:
    """A model folder, a finished run, a hub name or asset:NAME, loaded when it is first needed."""

    def __init__(self, name: str, *, batch_size: int = 16):
        """`batch_size`: completions written side by side. UserError for what is no language model's folder."""
        self.name, self.batch_size = name, batch_size
        self.folder = resolve(name)
        about = read_json(Path(self.folder, "adapter_config.json" if has_adapter(self.folder) else "config.json"))
        kind = str(about.get("task_type") or next(iter(about.get("architectures") or []), ""))
        if kind == "SEQ_CLS" or kind.endswith("ForSequenceClassification"):
            raise UserError(f"{name}: is a reward model; it scores texts and writes none")

    @property
    def context(self) -> int:
        """Tokens that the model has places for."""
        return context_of(self._model)

    def ids(self, prompt: Text) -> np.ndarray:
        """The tokens of a prompt, as in training: messages by the chat template, a text as it stands, with the
        names of special tokens in both read as text. BadRow for what the tokenizer or the template refuses."""
        row = Row(prompt=self._writer.as_text(prompt), completions=(), key="", numbers={})
        return self._encoder.one(self._writer.script(row)).members[0].prompt

    def write(
        self, prompts: Sequence[np.ndarray], seeds: Sequence[tuple[int, ...]], style: Style
    ) -> list[list[Said]]:
        """For each prompt a completion for each of its seeds."""
        for prompt in prompts:
            if (room := self.context - style.max_new_tokens) < len(prompt):
                finding = f"a prompt has {len(prompt)} tokens; beside {style.max_new_tokens} new ones there is room for"
                raise BadRow(f"{finding} {room}")
        sampling = Sampling(
            style.max_new_tokens, self._alone.stops, style.stop_strings, style.temperature, style.top_k, style.top_p
        )
        asked = [Request(prompt.astype(np.int32), own) for prompt, own in zip(prompts, seeds, strict=True)]
        alone = self._alone
        with alone.engine() as engine:
            written = engine.write(asked, sampling)
        return [
            [Said(text=alone.decode(one.tokens), stop=str(one.stop), num_tokens=len(one.tokens)) for one in several]
            for several in written
        ]

    def tokens(self, prompt: Text, completion: Text) -> Tokens:
        """A prompt and what follows it, with its end, as in training. BadRow as for `ids`."""
        asked, said = self._writer.as_text(prompt), self._writer.as_text(completion)
        row = Row(prompt=asked, completions=(said,), key="", numbers={})
        try:
            return self._encoder.one(self._writer.script(row)).members[0]
        except PrefixBroken as error:
            raise BadRow(f"the chat template rewrites earlier turns: {error}") from None

    def logps(self, rows: Sequence[Tokens]) -> list[float]:
        """log pi(completion | prompt) of each, in nats, summed over its tokens."""
        return self._alone.logps(rows)

    @cached_property
    def tokenizer(self) -> Any:
        return load_tokenizer(ModelSection(model_name_or_path=self.folder))

    @property
    def _model(self) -> Any:
        return self._alone.model

    @cached_property
    def _alone(self) -> Alone:
        return Alone(model_in(self.folder, self.tokenizer), self.tokenizer, self.batch_size)

    @cached_property
    def _template(self) -> str:
        return choose_template(self.tokenizer)

    @cached_property
    def _writer(self) -> Writer:
        return Writer(self.tokenizer, self._template, names=Names(self.tokenizer))

    @cached_property
    def _encoder(self) -> Encoder:
        return Encoder(self.tokenizer, self._template)

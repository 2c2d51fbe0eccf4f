"""A reward model's score: what `reward_model` trained, or any one-label sequence classifier.

It reads prompt and completion as its own tokenizer and chat template write them, with an end-of-sequence token
behind, as it did when it was trained. Every process holds the whole model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import torch

from align.batches import Tokens
from align.data.reading.rows import Row
from align.data.text.script import Writer
from align.data.text.special import Names
from align.data.text.template import choose_template
from align.data.text.tokens import Encoder
from align.errors import UserError
from align.models.frozen import model_in
from align.models.load import where
from align.models.parts import backbone, scalar_head
from align.models.settings import ModelSection
from align.models.sources import read_json, resolve, side_files, weight_files
from align.models.tokenizer import load_tokenizer
from align.rewards.base import Text
from align.runfolder.checkpoint import is_checkpoint
from align.runfolder.unended import is_unended
from align.scoring.layout import lay_out


@dataclass(frozen=True)
class Reward:
    model: str  # a folder, a run, a checkpoint, or a hub name
    batch_size: int = 32  # completions scored at once

    in_process: ClassVar[bool] = True  # a model is not sent to worker processes

    def __post_init__(self):
        folder = Path(self.model).expanduser()
        if folder.exists() and not (is_checkpoint(folder) or is_unended(folder)):  # a model is made of those when asked
            check(Path(resolve(self.model, code=False)))

    def __call__(self, prompts: list[Text], completions: list[Text], **columns: Any) -> list[float]:
        tokens = self._model.read(prompts, completions)
        order = sorted(range(len(tokens)), key=lambda i: -len(tokens[i]))
        scores = [0.0] * len(tokens)
        for start in range(0, len(order), self.batch_size):
            portion = order[start : start + self.batch_size]
            for i, score in zip(portion, self._model.score([tokens[i] for i in portion]), strict=True):
                scores[i] = score
        return scores

    def inputs(self) -> list[Path]:
        """What is read of the model."""
        places = where(ModelSection(model_name_or_path=self.model), Path())
        folders = [folder for folder in (places.adapter, places.weights) if folder]
        return [file for folder in folders for file in (*weight_files(folder), *side_files(folder))]

    @cached_property
    def _model(self) -> ScalarModel:
        return ScalarModel(self.model)


def check(folder: Path) -> None:
    """UserError where a folder has no weights, or those of a model without a scalar head, which would be made up."""
    weight_files(folder)
    config = folder / "config.json"
    kinds = read_json(config).get("architectures") or [] if config.exists() else []
    if kinds and not any("SequenceClassification" in str(kind) for kind in kinds):
        raise UserError(
            f"{folder}: holds a {', '.join(map(str, kinds))}, which has no scalar head to score with; name the "
            "folder of a reward model, such as a run of reward_model"
        )


class ScalarModel:
    """A classifier with the words that it knows. Loaded when the first completion comes."""

    def __init__(self, name: str):
        check(Path(resolve(name, code=False)))
        tokenizer = load_tokenizer(ModelSection(model_name_or_path=name), "scalar")
        self.model = model_in(name, tokenizer, "scalar")
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model.to(self.device)
        self.encoder = Encoder(tokenizer)
        self.writer = Writer(tokenizer, choose_template(tokenizer), names=Names(tokenizer))

    def read(self, prompts: Sequence[Text], completions: Sequence[Text]) -> list[Tokens]:
        pairs = zip(prompts, completions, strict=True)
        rows = [Row(prompt=self._asked(p), completions=(self.writer.as_text(c),), key="", numbers={}) for p, c in pairs]
        scripts = [self.writer.script(row) for row in rows]
        return [encoded.members[0] for encoded in self.encoder.all(scripts)]

    def _asked(self, prompt: Text) -> Text:
        """A text may be the recipe's own, with the marks of turns; in messages, and in what the policy writes, a name
        of a special token is text."""
        return prompt if isinstance(prompt, str) else self.writer.as_text(prompt)

    @torch.no_grad()
    def score(self, tokens: Sequence[Tokens]) -> list[float]:
        """At the last token of each; right padding is seen by nobody."""
        rows = lay_out([[t] for t in tokens], "padded").to(self.device)
        hidden = backbone(self.model)(
            input_ids=rows.input_ids, position_ids=rows.position_ids, use_cache=False
        ).last_hidden_state
        return scalar_head(self.model)(hidden[rows.last[0], rows.last[1]]).squeeze(-1).float().tolist()

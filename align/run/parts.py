"""What sources of experience are made of, and the frozen models beside the policy."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from align.data.prepare import Splits
from align.data.settings import DataSection
from align.data.store import Store
from align.data.text.script import Writer
from align.data.text.special import Names
from align.data.text.tokens import Encoder
from align.models.adapters import reference_kind
from align.models.frozen import frozen_copy
from align.models.load import Device
from align.models.parts import context_of
from align.models.tokenizer import Head, stop_ids
from align.recipe.load import Recipe
from align.recipe.past import Past
from align.rollout.hints import HintColumn
from align.rollout.policy_engine import Readable, Texts
from align.scoring.experience import Batching, Columns
from align.scoring.role_table import REFERENCE, section_of
from align.scoring.roles import AdapterOff
from align.training.build import frozen, kernel_of
from align.training.step import Trainee
from align.training.team import Team
from align.world.distributed import World


def data_of(recipe: Recipe) -> DataSection:
    """The data as they are read: tokens that the recipe adds may stand in them by their names."""
    data, added = recipe.data, recipe.model.add_tokens
    if data.special_tokens == "all" or not added:
        return data
    return dataclasses.replace(data, special_tokens=[*data.special_tokens, *added])


def device_of(world: World) -> Device:
    """Where models are loaded that are divided or moved before they are used."""
    return "hollow" if world.divides else None


def head_of(recipe: Recipe | Past) -> Head:
    needs = recipe.method.needs()
    return "lm" if any("logps" in needs.live(m) for m in needs.learned()) else "scalar"


def hint_column(recipe: Recipe, splits: Splits, tokenizer: Any, context: int) -> HintColumn:
    store, template = splits.train, splits.chat_template
    texts = Writer(tokenizer, template, names=Names(tokenizer, data_of(recipe).special_tokens))
    room = context - recipe.rollout.max_completion_length
    return HintColumn(texts, Encoder(tokenizer, template), store.marked, room, store.place)


@dataclass(frozen=True)
class Parts:
    """What a source is made of."""

    recipe: Recipe
    batching: Batching
    team: Team
    tokenizer: Any
    init: Path  # of weights made from a config
    splits: Splits
    digest: str = ""  # of all that the run's numbers depend on

    @property
    def trainee(self) -> Trainee:
        """The policy."""
        return self.team.policy

    @property
    def copies(self) -> Mapping[str, Columns]:
        """Role -> a copy of the policy that moves."""
        return self.team.copies

    @property
    def stores(self) -> dict[str, Store]:
        return self.splits.stores

    @property
    def stops(self) -> tuple[int, ...]:
        """Tokens that end a completion."""
        return stop_ids(self.tokenizer, self.batching.world.unwrap(self.trainee.module).model)

    @property
    def added_texts(self) -> dict[str, int]:
        """Tokens that the recipe adds and that are text of a completion: they do not end it, begin it or pad."""
        found = {token: self.tokenizer.convert_tokens_to_ids(token) for token in self.recipe.model.add_tokens}
        silent = {*self.stops, self.tokenizer.bos_token_id, self.tokenizer.pad_token_id}
        return {token: i for token, i in found.items() if i not in silent}

    @property
    def texts(self) -> Texts:
        """What makes text of completions."""
        kept = frozenset(self.added_texts.values())
        return Readable(self.tokenizer, kept) if kept else self.tokenizer

    @property
    def context(self) -> int:
        """Tokens that the policy has positions for."""
        return context_of(self.batching.world.unwrap(self.trainee.module).model)

    def held_out(self, split: str) -> int:
        """Rows of a split that evaluations go through."""
        store = self.stores[split]
        return min(len(store), self.recipe.training.max_eval_rows or len(store))

    def frozen_model(self, role: str) -> Columns:
        """Who makes a role's columns: the policy with its adapter switched off, or a model that is loaded for it."""
        if role == REFERENCE and reference_kind(self.recipe.model) == "adapter_off":
            return AdapterOff(self.trainee.module)
        world, (section, key) = self.batching.world, section_of(self.recipe.model, role)
        model = frozen_copy(section, self.tokenizer, "lm", self.init, device_of(world), key)
        return frozen(model, kernel_of(model, self.recipe.training, world.device), world)

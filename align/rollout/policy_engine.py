"""Where an experience gets its engine from: the model that is trained, or a server that has been given its weights.

Other models beside the policy may write, too, by the names of their roles, where the engine is local.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
import torch

from align.batches import BY_POLICY
from align.errors import RunError
from align.models.frozen import adapter_off
from align.models.load import writing
from align.models.parts import unwrapped
from align.rollout.engine import Engine
from align.rollout.local import shared_prompts
from align.rollout.local.cache_check import cache_finding
from align.rollout.local.engine import LocalEngine
from align.rollout.local.uncached import PlainEngine
from align.rollout.samples import unsharded
from align.scoring import cpu_blocks as blocks
from align.scoring.roles import AdapterOff
from align.world.distributed import World


@runtime_checkable
class Engines(Protocol):
    """What whoever writes asks for an engine. All ranks ask together."""

    beside: ClassVar[bool]  # whether it can write while this process trains

    def at(self, version: int, writer: str = BY_POLICY) -> AbstractContextManager[Engine]:
        """One that writes with the weights of now of the policy, or of another `writer`; `version` is the number of
        steps that made the policy's."""
        ...

    def moved(self) -> None:
        """The policy may have other weights now than when it wrote, after as many steps."""
        ...

    def told(self) -> dict[str, float]:
        """Metrics of what was written since they were last told, for the main process."""
        ...

    def close(self) -> None:
        """Ends what was started."""
        ...


@runtime_checkable
class Texts(Protocol):
    """The part of a tokenizer that is needed where the policy writes."""

    @property
    def pad_token_id(self) -> int: ...

    def decode(self, ids: Any, **options: Any) -> str: ...


@dataclass(frozen=True)
class Readable:
    """A tokenizer of whose special tokens some are text."""

    tokenizer: Any
    kept: frozenset[int]

    @property
    def pad_token_id(self) -> int:
        return self.tokenizer.pad_token_id

    def decode(self, ids: Any, **options: Any) -> str:
        """As the tokenizer's own, where special tokens are left out."""
        left_out = self.special if options.pop("skip_special_tokens", False) else frozenset[int]()
        return self.tokenizer.decode([i for i in ids if i not in left_out], **options)

    @functools.cached_property
    def special(self) -> frozenset[int]:
        """Those that are not text."""
        return frozenset(i for i, t in self.tokenizer.added_tokens_decoder.items() if t.special) - self.kept


def text_of(tokenizer: Texts, ids: Sequence[int] | np.ndarray) -> str:
    return tokenizer.decode(list(map(int, ids)), skip_special_tokens=True)


@dataclass(frozen=True)
class LocalEngines:
    """The model that is trained, in this process; without a cache where its cache cannot be shared."""

    module: Any  # the prepared Scorer
    tokenizer: Texts
    max_rows: int  # that this rank writes side by side
    world: World
    refill: bool = False  # whether completions that wait take the rows of those that have ended
    beside: ClassVar[bool] = False
    say: Callable[[str], object] = print
    others: Mapping[str, Any] = field(default_factory=dict)  # role -> a prepared Scorer that writes as well
    kinds: dict[str, type[LocalEngine]] = field(default_factory=dict)  # of each writer, once it is known which is right

    @contextmanager
    def at(self, version: int, writer: str = BY_POLICY) -> Iterator[Engine]:
        if writer != BY_POLICY and writer not in self.others:
            there = ", ".join((BY_POLICY, *self.others))
            raise RunError(f"the method asks {writer} to write; there are {there} (its `writers` name copies)")
        module = self.module if writer == BY_POLICY else self.others[writer]
        with generating(module, self.world) as model:
            decode = functools.partial(text_of, self.tokenizer)
            engine = self._kind(writer, module)
            yield engine(model, self.tokenizer.pad_token_id, decode, self.max_rows, version, refill=self.refill)

    def moved(self) -> None:
        pass

    def told(self) -> dict[str, float]:
        return {}

    def close(self) -> None:
        pass

    def _kind(self, writer: str, module: Any) -> type[LocalEngine]:
        """Measured at the first call, which all ranks make together."""
        if writer not in self.kinds:
            findings = self.world.everyone(cache_finding(self.world.unwrap(_inner(module))))
            if finding := next(filter(None, findings), ""):
                self.say(f"a cache shared by completions: {finding}; every token runs the whole sequence again, slowly")
            self.kinds[writer] = PlainEngine if finding else LocalEngine
        return self.kinds[writer]


def _inner(module: Any) -> Any:
    return module.module if isinstance(module, AdapterOff) else module


@contextmanager
def generating(module: Any, world: World) -> Iterator[Any]:
    """The model in a prepared Scorer, whole, in evaluation mode and in the precision of training, without gradient."""
    if isinstance(module, AdapterOff):
        with adapter_off(module.module), generating(module.module, world) as model:
            yield model
        return
    scorer = world.unwrap(module)
    model, precision = scorer.model, scorer.precision(world.device)
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad(), precision, unsharded(module, world), writing(model), sharing_prompts(unwrapped(model)):
            yield model
    finally:
        model.train(was_training)


@contextmanager
def sharing_prompts(model: Any) -> Iterator[None]:
    """While this lasts, a model that attends by torch's common kernel can read a prompt once for its completions."""
    before = model.config._attn_implementation
    if before not in ("sdpa", blocks.NAME) or not getattr(model, "_supports_attention_backend", False):
        yield
        return
    model.set_attn_implementation(shared_prompts.NAME)
    try:
        yield
    finally:
        model.set_attn_implementation(before)

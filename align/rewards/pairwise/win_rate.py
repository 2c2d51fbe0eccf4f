"""How often a completion beats the others of its prompt: the mean of P(it beats one) over all others.

Who wins is said by one of

    function: package.module:function(prompt, a, b) -> the probability that a is better, from 0 to 1
    model:    a model that reads two answers (`two_answers` in `oracle`) and scores how much better the first is; it is
              asked in both orders, P = sigmoid((l_ab - l_ba) / scale). `reward_model` trains one on rows whose `chosen`
              has the better answer first and whose `rejected` has the same two the other way round
    scores:   another reward, with `settings`, by a link: P = sigmoid((s_a - s_b) / scale), or 1 for the one that scores
              more (`link: hard`). With `scores: learned` this is Bradley-Terry on a reward model

P(a, b) + P(b, a) = 1, and a function that is not so is refused (`average_orders` makes it so). The mean over a prompt's
completions is 1/2 exactly, and the rates of those that cannot be judged are None. Where others than the policy wrote
some of a prompt's completions, those of the policy are compared with these alone, and these have no rate.
"""

from __future__ import annotations

import inspect
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, get_args

from align.batches import BY_POLICY
from align.outside import load_outside, require_arguments
from align.rewards.base import Sample, Text, call, compares, find_reward
from align.rewards.pairwise.oracle import Link, Matrix, from_function, from_logits, from_scores, win_rates


@dataclass(frozen=True, kw_only=True)
class Reward:
    function: str = ""  # package.module:function
    average_orders: bool = False  # of what the function says of (a, b) and (b, a)
    model: str = ""  # a folder, a finished run, or a hub name
    scores: str = ""  # of align/rewards, or package.module:function (or Class, made with `settings`)
    settings: dict[str, Any] = field(default_factory=dict)  # of `scores`
    link: Link = "logistic"  # from two scores to who wins
    scale: float = 1.0  # by which differences are divided before the logistic link

    compares: ClassVar[str] = "prompt"

    def __post_init__(self):
        given = [name for name in ("function", "model", "scores") if getattr(self, name)]
        if len(given) != 1:
            raise ValueError(f"found {', '.join(given) or 'none'}; expected one of function, model and scores")
        if self.link not in get_args(Link):
            raise ValueError(f"link {self.link!r} is none of {', '.join(get_args(Link))}")
        if not self.scale > 0:
            raise ValueError(f"scale {self.scale} must be above 0")
        idle = {"settings": self.settings, "link": self.link != "logistic"} if not self.scores else {}
        idle |= {"average_orders": self.average_orders} if not self.function else {}
        if unused := [name for name, value in idle.items() if value]:
            raise ValueError(f"{unused[0]} has no effect beside {given[0]}; remove it")
        if compares(self._asked):
            raise ValueError(f"scores {self.scores}: compares completions itself; name one that judges each alone")

    @property
    def in_process(self) -> bool:
        return bool(self.model) or getattr(self._asked, "in_process", False)

    @property
    def asks(self) -> Callable[..., Any] | None:
        """Whoever is given the columns, too."""
        return self._asked if self.scores else None

    @property
    def calls(self) -> list[str]:
        """Code that is not ours."""
        return [name for name in (self.function, self.scores) if ":" in name]

    @property
    def inputs(self) -> Any:
        """What is read by whoever is asked, where that is said."""
        found: Any = getattr(self._asked, "inputs", None)
        return found() if inspect.ismethod(found) else found

    def warm(self) -> None:
        getattr(self._asked, "warm", lambda: None)()

    def verdicts(
        self, prompts: Sequence[Text], completions: Sequence[Text], completion_ids: Sequence[list[int]], **columns: Any
    ) -> Matrix:
        """(G, G): P(row beats column) for the completions of one prompt; called as a reward is."""
        if self.function:
            return from_function(self.function, self._asked, prompts[0], completions, average=self.average_orders)
        if self.model:
            return from_logits(completions, lambda texts: self._logits(prompts[0], texts), self.scale)
        samples = [
            Sample(
                prompt=prompts[i], completion=completions[i], completion_ids=completion_ids[i],
                columns={name: values[i] for name, values in columns.items()}, seed=random.getrandbits(32),
            )
            for i in range(len(completions))
        ]  # fmt: skip
        return from_scores(call(self.scores, self._asked, samples), self.link, self.scale)

    def __call__(
        self, prompts: list[Text], completions: list[Text], completion_ids: list[list[int]],
        written_by: Sequence[str | None] = (), **columns: Any,
    ) -> list[float | None]:  # fmt: skip
        found = self.verdicts(prompts, completions, completion_ids, **columns)
        return win_rates(found, [who not in (None, BY_POLICY) for who in written_by])

    def _logits(self, prompt: Text, texts: Sequence[Text]) -> list[float]:
        dialogue = not isinstance(prompt, str)
        said: list[Text] = [[{"role": "assistant", "content": t}] if dialogue else t for t in texts]
        return self._asked([prompt] * len(said), said)

    @cached_property
    def _asked(self) -> Callable[..., Any]:
        """Whoever says who wins: the function, or the reward that scores."""
        if self.function:
            found = load_outside("function", self.function)
            require_arguments("function", self.function, found, {"prompt": "", "a": "", "b": ""})
            return found
        return find_reward(self.scores, self.settings) if self.scores else find_reward("learned", {"model": self.model})

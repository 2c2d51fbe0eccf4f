"""Completions of several turns: when the policy ends a turn, an environment answers, and the policy goes on from there.

    f(prompt, text, columns) -> str | None

`prompt` is as rewards see it, `text` the completion so far, `columns` the data row; both are the completion's own, so
that what is changed in them is there in its next turn and nowhere else. What is returned is appended as it
is, special tokens by their names, and None says that the completion is over. The policy learns nothing from tokens that
it did not write: their mask is False, their log-probabilities are 0. They do count in the length of the completion.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from align.errors import RunError
from align.outside import contained, drawing, load_outside, place_of, require_arguments
from align.rewards.base import Text
from align.rollout.draws import seed_of
from align.rollout.engine import Engine, Request, Sampling, StopReason, Written

Environment = Callable[[Text, str, Mapping[str, Any]], Any]
CURE = "correct it, then go on with --resume --allow-changes inputs.environment"
ENDED = (StopReason.EOS, StopReason.STRING)  # of a turn that the policy ended itself


def find_environment(name: str) -> Environment:
    """UserError where there is no such function."""
    found = load_outside("environment", name)
    require_arguments("environment", name, found, {"prompt": "", "text": "", "columns": {}})
    return found


@dataclass
class Talk:
    """A completion on its way through its turns."""

    prompt: np.ndarray
    seed: int
    asked: Text  # the prompt as the environment sees it; its own, as are the columns
    columns: Mapping[str, Any]
    where: str  # for complaints: which prompt, which of its completions
    tokens: list[int] = field(default_factory=list)
    logps: list[float] = field(default_factory=list)
    mask: list[bool] = field(default_factory=list)  # True: written by the policy
    stop: StopReason = StopReason.WINDOW

    def take(self, written: Written) -> None:
        """A turn of the policy."""
        self.tokens += written.tokens.tolist()
        self.logps += written.logps.tolist()
        self.mask += [True] * len(written.tokens)
        self.stop = written.stop

    def hear(self, reply: Sequence[int]) -> None:
        """A turn of the environment."""
        self.tokens += reply
        self.logps += [0.0] * len(reply)
        self.mask += [False] * len(reply)

    def written(self, version: int) -> Written:
        return Written(np.array(self.tokens, np.int32), np.array(self.logps, np.float32), self.stop, version)


@dataclass(frozen=True)
class Turns:
    """An environment, and how long it is talked to."""

    name: str
    environment: Environment
    encode: Callable[[str], Sequence[int]]
    decode: Callable[[Sequence[int]], str]
    max_turns: int  # of the policy; after the last the environment is not asked

    def go_on(self, engine: Engine, talks: Sequence[Talk], sampling: Sampling) -> None:
        """From the first turn, which is written already, to the end. A turn's draws go on with the place in the whole.

        No talk knows of the others: its tokens are the same whatever is written beside it.
        """
        for _ in range(1, self.max_turns):
            talks = [talk for talk in talks if self._answered(talk, sampling.max_completion_length)]
            if not talks:
                return
            requests = [self._request(talk) for talk in talks]
            for talk, (written,) in zip(talks, engine.write(requests, sampling), strict=True):
                talk.take(written)

    def _request(self, talk: Talk) -> Request:
        """The next turn."""
        return Request(talk.prompt, (talk.seed,), np.array(talk.tokens, dtype=np.int32), earlier=len(talk.tokens))

    def _answered(self, talk: Talk, longest: int) -> bool:
        """Whether the policy is to go on, after a reply."""
        if talk.stop not in ENDED:
            return False
        reply = self._reply(talk)
        if reply is None:
            talk.stop = StopReason.ENVIRONMENT
            return False
        talk.hear(list(self.encode(reply))[: longest - len(talk.tokens)])
        if len(talk.tokens) >= longest:
            talk.stop = StopReason.LENGTH
            return False
        return True

    def _reply(self, talk: Talk) -> str | None:
        text = self.decode(talk.tokens)
        try:
            with contained(), drawing(seed_of(talk.seed, len(talk.tokens))):
                reply = self.environment(talk.asked, text, talk.columns)
        except Exception as error:  # whatever a user's function may raise
            raise RunError(self._complaint(talk, place_of(error))) from error
        if reply is None or isinstance(reply, str):
            return reply
        raise RunError(self._complaint(talk, f"returned {type(reply).__name__}; expected a text, or None at the end"))

    def _complaint(self, talk: Talk, found: str) -> str:
        return f"rollout.environment {self.name}: {talk.where}: {found}; {CURE}"

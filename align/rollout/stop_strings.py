"""Stop strings in the text of a completion, also one that begins in what the completion began with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from align.rollout.engine import Request, Sampling

Decode = Callable[[Sequence[int]], str]
UNFINISHED = "\ufffd"  # what decoders show for the bytes of a character that is not complete


@dataclass(frozen=True)
class StopStrings:
    """The search in what is written for one request. Only what ends in its new tokens counts."""

    decode: Decode
    strings: tuple[str, ...]
    begun: tuple[int, ...]  # tokens of the turn that were there before
    known: int  # characters of them

    def found(self, tokens: Sequence[int]) -> tuple[str, ...]:
        """Those that the new tokens have completed."""
        if not self.strings:
            return ()
        text = self.decode([*self.begun, *tokens])
        return tuple(s for s in self.strings if text.find(s, max(0, self.known - len(s) + 1)) >= 0)

    def only(self, strings: tuple[str, ...]) -> StopStrings:
        return StopStrings(self.decode, strings, self.begun, self.known)


def stop_strings(decode: Decode, request: Request, sampling: Sampling) -> StopStrings:
    begun = tuple(request.prefix[request.earlier :].tolist()) if sampling.stop_strings else ()
    known = len(decode(begun).rstrip(UNFINISHED)) if begun else 0
    return StopStrings(decode, sampling.stop_strings, begun, known)

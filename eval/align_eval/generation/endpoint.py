"""An OpenAI-compatible endpoint that answers: http://HOST:PORT/v1#MODEL.

Prompts are chat messages, which the endpoint's own template writes out, or (form=text) plain text. The key is read from
OPENAI_API_KEY. What an endpoint refuses is missing, with its reason; what it did not answer after all tries is asked
for again when the command is started again, and nothing that came is asked for twice.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import cached_property
from pathlib import Path
from typing import Any

from align.errors import RunError, UserError
from align.judges.served.endpoint import Endpoint, Refused, Stopping, Unanswered
from align.models.sources import folder_fingerprint
from align_eval.generation.asked import Ask, Keep, Made, Missing, Plan, Trained
from align_eval.generation.readings import Form, asked, form_of
from align_eval.generation.settings import Settings
from align_eval.records import Answer, Item

MOST_STOPS = 4  # strings that endpoints take; all are looked for here again
GIVE_UP = 3  # rounds of requests in a row that all fail


def endpoint_of(name: str, address: str, settings: Settings) -> Remote:
    """UserError where it cannot be reached, or serves several models and none is named."""
    url, _, model = address.partition("#")
    endpoint = Endpoint(base_url=url, timeout=settings.timeout)
    return Remote(name, endpoint, model or _only_model(endpoint), settings)


def _only_model(endpoint: Endpoint) -> str:
    try:
        with endpoint.connected():
            served = [str(card["id"]) for card in endpoint.get("/models")["data"]]
    except (Unanswered, KeyError, TypeError) as error:
        raise UserError(f"{endpoint.url}: tells no models ({error}); name one: {endpoint.url}#MODEL") from None
    if len(served) != 1:
        there = ", ".join(served) or "none"
        raise UserError(f"{endpoint.url}: serves {there}; name one: {endpoint.url}#MODEL")
    return served[0]


class Remote:
    """Asked by several threads at once."""

    whole_chunks = False

    def __init__(self, name: str, endpoint: Endpoint, model: str, settings: Settings):
        self.name, self.endpoint, self.model, self.settings = name or model, endpoint, model, settings
        self.side_by_side = 4 * settings.concurrency
        self.form: Form = form_of(settings.form, True, self.name, settings.system)

    def identity(self) -> dict[str, Any]:
        """The served name is all that an endpoint tells of its weights; a server here tells where they lie, too."""
        return {"kind": "endpoint", "url": self.endpoint.url, "model": self.model, "form": self.form, **self._card}

    @cached_property
    def _card(self) -> dict[str, Any]:
        try:
            with self.endpoint.connected():
                cards = self.endpoint.get("/models")["data"]
            root = next((str(card["root"]) for card in cards if card.get("id") == self.model), "")
        except (Refused, KeyError, TypeError, AttributeError):
            return {}
        except Unanswered as error:
            raise UserError(f"{error}; is an endpoint there?") from None
        if self.endpoint.local and Path(root).is_dir() and root:
            with contextlib.suppress(UserError):
                return {"root": root, "weights": folder_fingerprint(root)}
        return {"root": root} if root else {}

    def trained(self) -> Trained:
        return Trained()

    def count(self, items: Sequence[Item], plan: Plan) -> list[int] | None:
        return None

    def close(self) -> None:
        """Its connections were closed with the last answer."""

    def answer(self, asks: Sequence[Ask], plan: Plan, keep: Keep) -> None:
        """RunError where requests were not answered; what came is kept."""
        one = self._write if plan.mode == "write" else self._choose
        wanted = [(ask.item, s, seed) for ask in asks for s, seed in zip(ask.samples, ask.seeds, strict=True)]
        failed, in_a_row, last = 0, 0, ""
        pool = ThreadPoolExecutor(self.settings.concurrency)
        with self.endpoint.connected():
            try:
                running = [pool.submit(one, item, sample, seed, plan) for item, sample, seed in wanted]
                for future in as_completed(running):
                    try:
                        keep([future.result()])
                        in_a_row = 0
                    except (Unanswered, Stopping) as error:
                        failed, in_a_row, last = failed + 1, in_a_row + 1, str(error) or last
                    if in_a_row >= GIVE_UP * self.settings.concurrency:
                        break
            finally:
                self.endpoint.stop()
                pool.shutdown(cancel_futures=True)
        if failed:
            raise RunError(
                f"{self.name}: {failed} of {len(wanted)} requests were not answered, the last: {last}. What came is "
                "kept; start the command again when the endpoint is well, and only the rest is asked for"
            )

    # ---- writing ----------------------------------------------------------------------------------------------------

    def _write(self, item: Item, sample: int, seed: int, plan: Plan) -> Made:
        said = asked(item, self.form, self.settings.system)
        chat = not isinstance(said, str)
        body = {**self._body(plan, seed), ("messages" if chat else "prompt"): said}
        try:
            found = self.endpoint.post("/chat/completions" if chat else "/completions", body)
        except Refused as error:
            return self._refused(item, sample, error)
        try:
            choice, usage = found["choices"][0], found.get("usage") or {}
            text = choice["message"].get("content") if chat else choice["text"]
            stop = {"stop": "eos", "length": "length"}.get(str(choice.get("finish_reason")), "")
        except (KeyError, IndexError, TypeError, AttributeError):
            raise Unanswered(f"{self.endpoint.url}: answers without a choice: {str(found)[:200]}") from None
        if not isinstance(text, str):
            return Missing(item=item.id, model=self.name, sample=sample, why="the endpoint answers without a text")
        count = usage.get("completion_tokens")
        return Answer(
            item=item.id, model=self.name, sample=sample, text=plan.cut_at(text), stop=stop,
            num_tokens=count if isinstance(count, int) else None, columns=_paid(usage),
        )  # fmt: skip

    def _refused(self, item: Item, sample: int, error: Refused) -> Missing:
        if "answers 404" in str(error):
            raise UserError(f"{error}; is {self.model!r} served there, and does the address end as it should (/v1)?")
        return Missing(item=item.id, model=self.name, sample=sample, why=str(error))

    def _body(self, plan: Plan, seed: int) -> dict[str, Any]:
        s = self.settings
        drawn: dict[str, Any] = {}
        if s.temperature > 0:
            drawn = {"seed": seed >> 33, "top_p": s.top_p}  # 31 bits: all endpoints take so many
            drawn |= {k: v for k, v in (("top_k", s.top_k), ("min_p", s.min_p)) if v}
        stops = {"stop": list(plan.stop_strings[:MOST_STOPS])} if plan.stop_strings else {}
        limit = {"max_tokens": plan.max_completion_length}
        return {"model": self.model, "temperature": s.temperature, **limit, **drawn, **stops}

    # ---- choosing ---------------------------------------------------------------------------------------------------

    def _choose(self, item: Item, sample: int, seed: int, plan: Plan) -> Made:
        """By the log-probabilities of given text, which completions tell where they echo their prompt."""
        prompt = item.prompt
        if self.form != "text" or not isinstance(prompt, str):
            raise UserError(
                f"{self.name}: {item.columns['task']} needs the log-probabilities of given text, which no chat "
                "endpoint tells; set form=text, or name a model folder"
            )
        gap = "" if prompt[-1:].isspace() else plan.gap
        try:
            found = [self._given(prompt, gap + choice) for choice in item.columns["choices"]]
        except Refused as error:
            return self._refused(item, sample, error)
        if any(one is None for one in found):
            why = "the endpoint's tokens cross the border between prompt and choice, or it tells no log-probabilities"
            return Missing(item=item.id, model=self.name, why=why)
        sums = [one for one in found if one]
        said = item.columns["choices"]
        best = max(range(len(said)), key=lambda i: sums[i][0])
        columns = {"logps": [s for s, _ in sums], "tokens": [n for _, n in sums],
                   "bytes": [len(c.encode()) for c in said]}  # fmt: skip
        return Answer(item=item.id, model=self.name, text=said[best], columns=columns)

    def _given(self, prompt: str, choice: str) -> tuple[float, int] | None:
        """Nats and tokens of a choice behind a prompt; None where that is not told."""
        body = {"model": self.model, "prompt": prompt + choice, "max_tokens": 1, "temperature": 0.0, "logprobs": 1,
                "echo": True}  # fmt: skip
        told = self.endpoint.post("/completions", body)
        try:
            logprobs = told["choices"][0]["logprobs"]
            pairs = list(zip(logprobs["text_offset"], logprobs["token_logprobs"], strict=True))
        except (KeyError, IndexError, TypeError, ValueError):
            return None
        inside = list(_inside(pairs, len(prompt), len(prompt) + len(choice)))
        begins = any(offset == len(prompt) for offset, _ in pairs)
        return (sum(inside), len(inside)) if begins and inside else None


def _inside(pairs: Sequence[tuple[int, float | None]], start: int, end: int) -> Iterator[float]:
    return (float(logp) for offset, logp in pairs if start <= offset < end and logp is not None)


def _paid(usage: dict[str, Any]) -> dict[str, Any]:
    count = usage.get("prompt_tokens")
    return {"prompt_tokens": count} if isinstance(count, int) else {}

"""An OpenAI-compatible endpoint that answers: http://HOST:PORT/v1#MODEL.

Prompts are chat messages, which the endpoint's own template writes out, or (form=text) plain text. The key is read from
OPENAI_API_KEY. What an endpoint refuses or does not answer after all tries is missing, with its reason, and asked for
again when the command is started again; nothing that came is asked for twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

from align.errors import UserError
from align.judges.served.completions import complete, counted, post, served_by, side_by_side, weights_told
from align.judges.served.endpoint import Endpoint, Stopping, Unanswered
from align_eval.generation.asked import SERVED, Ask, Keep, Made, Missing, Plan, Trained
from align_eval.generation.readings import Form, asked, form_of
from align_eval.generation.settings import Settings
from align_eval.records import Answer, Item

MOST_STOPS = 4  # strings that endpoints take; all are looked for here again
STOPS = {"stop": "eos", "length": "length"}
One = tuple[Item, int, int]  # an item, the number of its answer, and that one's seed


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
    asks = True
    exact = False

    def __init__(self, name: str, endpoint: Endpoint, model: str, settings: Settings):
        self.name, self.endpoint, self.model, self.settings = name or model, endpoint, model, settings
        self.side_by_side = 4 * settings.concurrency
        self.form: Form = form_of(settings.form, True, self.name, settings.system)

    def identity(self) -> dict[str, Any]:
        """What an endpoint tells of its weights: its name for them, and a server here also where they lie."""
        return {"kind": "endpoint", "url": self.endpoint.url, "model": self.model, "form": self.form, **self._weights}

    @cached_property
    def _weights(self) -> dict[str, str]:
        try:
            with self.endpoint.connected():
                return weights_told(self.endpoint, self.model)
        except Unanswered as error:
            raise UserError(f"{error}; is an endpoint there?") from None

    def trained(self) -> Trained:
        return Trained()

    def count(self, item: Item, plan: Plan) -> int:
        said = asked(item, self.form, self.settings.system)
        choices = [] if plan.mode == "write" else item.columns["choices"]
        return counted(said) if not choices else sum(counted(str(said) + choice) for choice in choices)

    def close(self) -> None:
        """Its connections were closed with the last answer."""

    def answer(self, asks: Sequence[Ask], plan: Plan, keep: Keep) -> None:
        """RunError where nothing comes back any more; what came is kept."""
        wanted = ((ask.item, s, seed) for ask in asks for s, seed in zip(ask.samples, ask.seeds, strict=True))
        for _, made in side_by_side(
            self.endpoint, self.settings.concurrency, wanted, lambda one: self._made(one, plan), _failure
        ):
            keep([made])

    def _made(self, one: One, plan: Plan) -> Made:
        try:
            return self._written(one, plan) if plan.mode == "write" else self._chosen(one, plan)
        except (Unanswered, Stopping) as error:
            return self._missing(one, str(error) or "was stopped", again=True)

    def _missing(self, one: One, why: str, *, again: bool = False) -> Missing:
        item, sample, _ = one
        return Missing(item=item.id, model=self.name, sample=sample, why=why, again=again)

    # ---- writing ----------------------------------------------------------------------------------------------------

    def _written(self, one: One, plan: Plan) -> Made:
        item, sample, seed = one
        said = asked(item, self.form, self.settings.system)
        part = "prompt" if isinstance(said, str) else "messages"
        found = complete(self.endpoint, {**self._body(plan, seed), part: said})
        if found.text is None:
            return self._missing(one, "the endpoint answers without a text")
        told = {"prompt_tokens": found.prompt_tokens, SERVED: found.served}
        return Answer(
            item=item.id, model=self.name, sample=sample, text=plan.cut_at(found.text),
            stop=STOPS.get(found.stop, ""), num_tokens=found.completion_tokens,
            columns={key: value for key, value in told.items() if value not in (None, "")},
        )  # fmt: skip

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

    def _chosen(self, one: One, plan: Plan) -> Made:
        """By the log-probabilities of given text, which completions tell where they echo their prompt."""
        item, prompt = one[0], one[0].prompt
        if self.form != "text" or not isinstance(prompt, str):
            raise UserError(
                f"{self.name}: {item.columns['task']} needs the log-probabilities of given text, which no chat "
                "endpoint tells; set form=text, or name a model folder"
            )
        gap = "" if prompt[-1:].isspace() else plan.gap
        found = [self._given(prompt, gap + choice) for choice in item.columns["choices"]]
        if any(told is None for told in found):
            why = "the endpoint's tokens cross the border between prompt and choice, or it tells no log-probabilities"
            return self._missing(one, why)
        sums = [told for told in found if told]
        said = item.columns["choices"]
        best = max(range(len(said)), key=lambda i: sums[i][0])
        columns: dict[str, Any] = {"logps": [s for s, _, _ in sums], "tokens": [n for _, n, _ in sums],
                                   "bytes": [len(c.encode()) for c in said]}  # fmt: skip
        if served := sums[0][2]:
            columns[SERVED] = served
        return Answer(item=item.id, model=self.name, text=said[best], columns=columns)

    def _given(self, prompt: str, choice: str) -> tuple[float, int, str] | None:
        """Nats and tokens of a choice behind a prompt, and by which model; None where that is not told."""
        body = {"model": self.model, "prompt": prompt + choice, "max_tokens": 1, "temperature": 0.0, "logprobs": 1,
                "echo": True}  # fmt: skip
        told = post(self.endpoint, "/completions", body)
        try:
            logprobs = told["choices"][0]["logprobs"]
            pairs = list(zip(map(str, logprobs["tokens"]), logprobs["token_logprobs"], strict=True))
            inside = _at_end(pairs, prompt + choice, choice)
        except (KeyError, IndexError, TypeError, ValueError):
            return None
        return (sum(inside), len(inside), served_by(told)) if inside else None


def _failure(made: Made) -> str:
    return made.why if isinstance(made, Missing) and made.again else ""


def _at_end(pairs: Sequence[tuple[str, float]], text: str, choice: str) -> list[float]:
    """Nats of the tokens of a choice, which ends an echoed text; empty where a token stands across its beginning.

    Found from the end: servers tell offsets from different beginnings, some of them before a token that they have put
    there. The last token is usually what was written behind the text.
    """
    for count in (len(pairs) - 1, len(pairs)):
        if "".join(token for token, _ in pairs[:count]).endswith(text):
            left, inside = len(choice), list[float]()
            for token, logp in reversed(pairs[:count]):
                if left > 0:
                    left -= len(token)
                    inside.append(float(logp))
            return inside if left == 0 else []
    return []

"""A model in this process: written with by align's own engine, and scored by align's own scorer."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from align.batches import Tokens
from align.data.reading.messages import BadRow
from align.models.load import where
from align.models.outline import config_of
from align.models.parts import context_in
from align.models.sources import folder_fingerprint, side_sums
from align.models.tokenizer import stop_ids
from align.rollout.engine import Engine, Request, Sampling, StopReason
from align.rollout.local.alone import Alone
from align.rollout.policy_engine import Readable, text_of
from align.system.sums import digest_of
from align_eval.generation.asked import Ask, Keep, Made, Missing, Plan, Trained
from align_eval.generation.readings import Reading, form_of
from align_eval.generation.settings import Settings
from align_eval.generation.trained import Where, model_of, vocabulary_of, weights_of
from align_eval.records import Answer, Item

LOGPS = ("logps",)


class Local:
    """Loaded when the first answer is wanted."""

    whole_chunks = True
    asks = True
    exact = True

    def __init__(self, name: str, found: Where, settings: Settings):
        self.name, self.where, self.settings = name, found, settings
        self.side_by_side = settings.max_rows

    def identity(self) -> dict[str, Any]:
        places = where(self.where.section, self.where.init)
        folder = places.adapter or places.weights
        found = {
            "kind": "local", "weights": weights_of(self.where) or folder_fingerprint(folder),
            "files": digest_of(side_sums(folder)), "template": digest_of(self.reading.template),
            "form": self.reading.form,
        }  # fmt: skip
        if not self.where.final:
            found["recipe"] = digest_of({"model": self.where.part("model")})
        return found

    def trained(self) -> Trained:
        return self.where.trained()

    def close(self) -> None:
        self.__dict__.pop("alone", None)

    @functools.cached_property
    def reading(self) -> Reading:
        tokenizer, template = vocabulary_of(self.where)
        own = tokenizer.chat_template
        if not self.where.final:
            own = own or self.where.part("data").get("chat_template")
        form = form_of(self.settings.form, own, self.name, self.settings.system)
        return Reading(tokenizer, template, form, self.settings.system, self.where.special_tokens)

    @functools.cached_property
    def alone(self) -> Alone:
        tokenizer = self.reading.tokenizer
        return Alone(model_of(self.where, tokenizer), tokenizer, self.settings.max_rows, self._readable)

    @functools.cached_property
    def context(self) -> int:
        return context_in(config_of(self.where.section, self.reading.tokenizer, "lm"))

    def count(self, item: Item, plan: Plan) -> int:
        if plan.mode == "write":
            return len(self.reading.prompt(item).prompt)
        return sum(map(len, self.reading.choices(item, plan.gap, ended=plan.ended)))

    def answer(self, asks: Sequence[Ask], plan: Plan, keep: Keep) -> None:
        keep(list(self._written(asks, plan) if plan.mode == "write" else self._chosen(asks, plan)))

    # ---- writing ----------------------------------------------------------------------------------------------------

    def _written(self, asks: Sequence[Ask], plan: Plan) -> Iterator[Made]:
        requests: list[tuple[Ask, Request]] = []
        for ask in asks:
            request, why = self._request(ask, plan)
            if request is None:
                yield from (Missing(item=ask.item.id, model=self.name, sample=s, why=why) for s in ask.samples)
            else:
                requests.append((ask, request))
        with self._engine() as engine:
            found = engine.write([request for _, request in requests], self._sampling(plan))
        for (ask, request), written in zip(requests, found, strict=True):
            for sample, one in zip(ask.samples, written, strict=True):
                stop = StopReason.LENGTH if one.stop == StopReason.WINDOW else one.stop
                text = plan.cut_at(text_of(self._readable, one.tokens))
                yield Answer(
                    item=ask.item.id, model=self.name, sample=sample, stop=str(stop), num_tokens=len(one.tokens),
                    text=text, columns={"prompt_tokens": len(request.prompt)},
                )  # fmt: skip

    def _request(self, ask: Ask, plan: Plan) -> tuple[Request | None, str]:
        try:
            prompt = self.reading.prompt(ask.item).prompt
        except BadRow as error:
            return None, f"the prompt cannot be read: {error}"
        room = self.context - len(prompt)
        if room < 1:
            return None, f"the prompt has {len(prompt)} tokens, and the model reads {self.context}"
        window = room if room < plan.max_completion_length else 0
        return Request(prompt.astype(np.int32), ask.seeds, window=window), ""

    def _sampling(self, plan: Plan) -> Sampling:
        s = self.settings
        return Sampling(
            plan.max_completion_length, self.alone.stops, plan.stop_strings, s.temperature, s.top_k, s.top_p, s.min_p
        )  # fmt: skip

    def _engine(self) -> AbstractContextManager[Engine]:
        return self.alone.engine()

    @functools.cached_property
    def _readable(self) -> Any:
        tokenizer = self.reading.tokenizer
        added = {tokenizer.convert_tokens_to_ids(token) for token in self.where.section.add_tokens}
        kept = added - {*stop_ids(tokenizer, None), tokenizer.bos_token_id, tokenizer.pad_token_id}
        return Readable(tokenizer, frozenset(kept)) if kept else tokenizer

    # ---- choosing ---------------------------------------------------------------------------------------------------

    def _chosen(self, asks: Sequence[Ask], plan: Plan) -> Iterator[Made]:
        found: list[tuple[Ask, tuple[Tokens, ...]]] = []
        for ask in asks:
            try:
                choices = self.reading.choices(ask.item, plan.gap, ended=plan.ended)
            except BadRow as error:
                yield Missing(item=ask.item.id, model=self.name, why=f"cannot be read: {error}")
                continue
            longest = max(map(len, choices))
            if longest > self.context:
                why = f"prompt and choice have {longest} tokens, and the model reads {self.context}"
                yield Missing(item=ask.item.id, model=self.name, why=why)
            else:
                found.append((ask, choices))
        logps = iter(self.alone.logps([tokens for _, choices in found for tokens in choices]))
        for ask, choices in found:
            said = ask.item.columns["choices"]
            values = [next(logps) for _ in choices]
            columns = {"logps": values, "tokens": [len(t.completion) for t in choices],
                       "bytes": [len(c.encode()) for c in said]}  # fmt: skip
            best = max(range(len(said)), key=lambda i: values[i])
            yield Answer(item=ask.item.id, model=self.name, text=said[best], columns=columns)

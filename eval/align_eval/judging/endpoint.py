"""What an endpoint can and cannot do, found by asking it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from align.errors import RunError
from align.judges.base import Question
from align.judges.prompts import load_instructions
from align.judges.served.endpoint import Endpoint
from align.judges.verdicts import read
from align.system.terminal import say

Finding = Literal["yes", "no", "unknown"]
SAMPLE = Question(
    item="doctor", prompt="How many days has a week?", models=("a", "b"),
    answers=("Seven.", "A week has five days, since nobody works on the other two."), order="ab",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing that was tried."""

    what: str
    works: Finding
    told: str  # what was found, and what it means


@dataclass(frozen=True, kw_only=True)
class Examined:
    """An endpoint and its model."""

    url: str
    model: str
    checks: list[Check]

    @property
    def can_judge(self) -> bool:
        return all(check.works == "yes" for check in self.checks if check.what in ("chat", "verdict"))


class Patient:
    """One endpoint, asked one thing at a time."""

    def __init__(self, endpoint: Endpoint, model: str):
        self.endpoint, self.model = endpoint, model

    def said(self, content: str, system: str = "", **more: Any) -> tuple[str, dict[str, Any], dict[str, Any]]:
        """The text, the choice and the whole answer. AlignError where there is none."""
        messages = [*([{"role": "system", "content": system}] if system else []), {"role": "user", "content": content}]
        body = {"model": self.model, "messages": messages, "max_tokens": 64, "temperature": 0.0, **more}
        found = self.endpoint.post("/chat/completions", body)
        try:
            choice = found["choices"][0]
            return str(choice["message"].get("content") or ""), choice, found
        except (KeyError, IndexError, TypeError, AttributeError):
            raise RunError(f"answers without a choice: {str(found)[:200]}") from None


def examine(base_url: str, model: str = "", key_env: str = "OPENAI_API_KEY", timeout: float = 30.0) -> Examined:
    """Tries what judges need. UserError for an address that is none or a key that is refused, RunError where no model
    is named and none is served."""
    endpoint = Endpoint(base_url=base_url, key_env=key_env, timeout=timeout, retries=1)
    with endpoint.connected():
        return _examined(endpoint, model)


def _examined(endpoint: Endpoint, model: str) -> Examined:
    served = Check(what="models", works="unknown", told="")
    names = list[str]()
    try:
        names = [str(card["id"]) for card in endpoint.get("/models")["data"]]
        shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
        served = Check(what="models", works="yes", told=f"serves {shown}")
    except RunError as error:
        served = Check(what="models", works="no", told=f"{error}; a model must be named with --model")
    except (KeyError, TypeError):
        served = Check(what="models", works="no", told="its list of models is not OpenAI's; name one with --model")
    if not model and not names:
        raise RunError(served.told if served.told.startswith(endpoint.url) else f"{endpoint.url}: {served.told}")
    patient = Patient(endpoint, model or names[0])
    found = [served]
    for check in CHECKS:
        found.append(_tried(check, patient))
        if check is _chat and found[-1].works != "yes":
            break  # nothing else can work
    return Examined(url=endpoint.url, model=patient.model, checks=found)


def _tried(check: Callable[[Patient], Check], patient: Patient) -> Check:
    try:
        return check(patient)
    except RunError as error:
        return Check(what=check.__name__.strip("_"), works="no", told=str(error))


def _chat(patient: Patient) -> Check:
    text, choice, found = patient.said("Say the word apple and nothing else.")
    if not text.strip():
        told = f"replies with nothing (finish_reason {choice.get('finish_reason')})"
        return Check(what="chat", works="no", told=told)
    named = f"; says that {found['model']} replied" if found.get("model") else "; does not say which model replied"
    return Check(what="chat", works="yes", told=f"replies {text.strip()[:40]!r}{named}")


def _usage(patient: Patient) -> Check:
    usage = patient.said("Say yes.")[2].get("usage") or {}
    if {"prompt_tokens", "completion_tokens"} <= usage.keys():
        return Check(what="usage", works="yes", told="tells tokens, so budgets are exact")
    return Check(what="usage", works="no", told="tells no tokens; budgets count the most that a reply may take")


def _system(patient: Patient) -> Check:
    text = patient.said("Which fruit?", system="Whatever you are asked, reply with the word cherry.")[0]
    heard = "cherry" in text.lower()
    means = "is heeded" if heard else f"is taken; told to say cherry, it says {text.strip()[:40]!r}"
    return Check(what="system", works="yes" if heard else "unknown", told=f"a system turn {means}")


def _limit(patient: Patient) -> Check:
    _, choice, found = patient.said("Count from one to fifty.", max_tokens=4)
    used = (found.get("usage") or {}).get("completion_tokens")
    if choice.get("finish_reason") == "length" and (used is None or used <= 4):
        return Check(what="limit", works="yes", told="max_tokens ends a reply, and finish_reason says so")
    told = f"max_tokens 4 gives {used} tokens and finish_reason {choice.get('finish_reason')!r}: cuts are not known"
    return Check(what="limit", works="no", told=told)


def _seed(patient: Patient) -> Check:
    how = {"temperature": 1.0, "max_tokens": 24}
    drawn = [patient.said("Write a short sentence.", **how, seed=seed)[0] for seed in (1, 1, 2)]
    if drawn[0] != drawn[1]:
        return Check(what="seed", works="no", told="the same seed gives another reply: repeats cannot be repeated")
    told = "seeds are heeded" if drawn[0] != drawn[2] else "the same reply for every seed at temperature 1"
    return Check(what="seed", works="yes" if drawn[0] != drawn[2] else "unknown", told=told)


def _logprobs(patient: Patient) -> Check:
    choice = patient.said("Say yes.", logprobs=True, top_logprobs=2, max_tokens=2)[1]
    given = (choice.get("logprobs") or {}).get("content")
    if given and isinstance(given[0].get("logprob"), int | float):
        return Check(what="logprobs", works="yes", told="gives log-probabilities of its tokens")
    return Check(what="logprobs", works="no", told="gives no log-probabilities; judges here do not need them")


def _json(patient: Patient) -> Check:
    text = patient.said(
        'Reply with the JSON object {"score": 3}.', response_format={"type": "json_object"}, max_tokens=32
    )[0]
    found = read(text, load_instructions("rubric").shape)
    if found.value is not None:
        return Check(what="json", works="yes", told="response_format makes JSON")
    return Check(what="json", works="no", told=f"with response_format json_object it replies {text[:60]!r}")


def _verdict(patient: Patient) -> Check:
    instructions = load_instructions("pairwise")
    system, user = (message["content"] for message in instructions.filled(SAMPLE))
    text = patient.said(user, system=system, max_tokens=512)[0]
    found = read(text, instructions.shape, SAMPLE.answers)
    if found.value is None:
        return Check(what="verdict", works="no", told=f"asked to compare two answers, its reply {found.why}")
    right = "the right one" if found.value == 1 else "the wrong one: it calls five days a week's better"
    return Check(what="verdict", works="yes", told=f"compares two answers and gives a verdict, {right}")


CHECKS = (_chat, _usage, _system, _limit, _seed, _logprobs, _json, _verdict)
MARKS: dict[Finding, str] = {"yes": "can", "no": "cannot", "unknown": "unsure"}


def lines(found: Examined) -> Iterator[str]:
    yield f"{found.url}, model {found.model}"
    for check in found.checks:
        yield f"  {MARKS[check.works]:7} {check.what:9} {check.told}"
    yield "It can judge." if found.can_judge else "It cannot judge here."


def run(base_url: str, model: str, key_env: str, timeout: float) -> None:
    """`align-eval doctor`. RunError where it cannot judge."""
    found = examine(base_url, model, key_env, timeout)
    for line in lines(found):
        say(line)
    if not found.can_judge:
        raise RunError(f"{found.url}: {found.model} cannot judge")



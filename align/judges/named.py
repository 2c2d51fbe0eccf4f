"""A judge by what is written on a command line or in a YAML file.

    recorded:FILE   rule:longer   reward:FOLDER   implicit:FOLDER   pairwise:FOLDER   local:FOLDER   http:MODEL

or a YAML file:

    judges: [rule:longer, {judge: "http:small", base_url: "http://127.0.0.1:8000/v1"}]     a panel
    rule: majority
    quorum: 2

    judge: http:large                                                                      or one judge with its details
    instructions: graded
    temperature: 0.7
    votes: 5
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

from align.errors import UserError, did_you_mean
from align.judges.asking import ModelJudge
from align.judges.base import Judge
from align.judges.budget import Budget
from align.judges.panel import Panel
from align.judges.prompts import load_instructions
from align.judges.recorded import RecordedJudge
from align.judges.replies import Decoding, Replies, Speaker
from align.judges.rules import RuleJudge, rule_names
from align.judges.served.endpoint import Endpoint
from align.judges.served.speaker import EndpointSpeaker

KINDS = ("recorded", "rule", "reward", "implicit", "pairwise", "local", "http")
SUFFIXES = (".yaml", ".yml")


@dataclass(frozen=True, kw_only=True)
class JudgeSpec:
    """One judge with its details; those that its kind does not have are left at their defaults."""

    judge: str  # kind:what
    name: str = ""  # as it is called in results; empty: made of kind and what
    instructions: str = "pairwise"  # shipped, or a YAML file: of models that read instructions
    rubric: str = ""  # what to look for, put into the instructions; on a command line a text file
    temperature: float = 0.0  # of replies; 0 takes the likeliest token
    top_p: float = 1.0  # of replies
    max_tokens: int = 1024  # of a reply
    votes: int = 1  # replies to each question: of pairs most of them decide, of grades their mean
    base_url: str = ""  # of an endpoint, as --base-url
    key_env: str = "OPENAI_API_KEY"  # the environment variable that holds its key
    revision: str = ""  # of what an endpoint serves
    timeout: float = 120.0  # seconds for a reply of an endpoint
    retries: int = 5  # of a request that fails for a while
    per_minute: float = 0.0  # requests; 0: as fast as it replies
    concurrency: int = 8  # requests at once
    batch_size: int = 16  # texts that a model here reads at once: memory, not numbers
    extra: dict[str, Any] = field(default_factory=dict)  # further keys of requests
    settings: dict[str, Any] = field(default_factory=dict)  # of a rule
    tokenizer: str = ""  # of a rule that looks at completion_ids: a model's folder
    scale: float = 1.0  # of a pairwise model: what its scores are divided by
    reference: str = ""  # of an implicit reward: the model that its policy was trained from
    beta: float = 0.1  # of an implicit reward

    @property
    def kind(self) -> str:
        return self.judge.partition(":")[0]

    @property
    def what(self) -> str:
        return self.judge.partition(":")[2]

    @property
    def called(self) -> str:
        """The name: without the folders that a path leads through."""
        if self.name:
            return self.name
        short = what = self.what.rstrip("/")
        if self.kind not in ("http", "rule"):
            short = Path(what).stem if self.kind == "recorded" else what.split("/")[-1]
        reads = self.kind in ("local", "http") and self.instructions != "pairwise"
        return f"{self.kind}:{short}" + (f" ({Path(self.instructions).stem})" if reads else "")


@dataclass(frozen=True)
class Means:
    """What judges share: the memory, a budget, and where progress is told."""

    replies: Replies = field(default_factory=Replies)
    budget: Budget = field(default_factory=Budget)
    progress: Callable[[int, int], object] = lambda done, of: None


def make_judge(spec: JudgeSpec | Panelled, means: Means | None = None) -> Judge:
    """UserError says what is wrong with it."""
    means = means or Means()
    if isinstance(spec, Panelled):
        judges = tuple(make_judge(one, means) for one in spec.judges)
        return Panel(name=spec.name, judges=judges, rule=spec.rule, quorum=spec.quorum)  # type: ignore[arg-type]
    _refuse_idle(spec)
    name, what, pairwise = spec.called, spec.what, load_instructions(spec.instructions).kind == "pairwise"
    if spec.kind == "recorded":
        if not (file := Path(what).expanduser()).is_file():
            raise UserError(f"judge {spec.judge}: cannot be read: no such file; expected rows of verdicts, one a line")
        return RecordedJudge(name=name, file=file)
    if spec.kind not in ("local", "http"):
        return _scorer(spec, pairwise)
    return ModelJudge(
        name=name, speaker=_speaker(spec), instructions=load_instructions(spec.instructions), rubric=spec.rubric,
        decoding=Decoding(max_tokens=spec.max_tokens, temperature=spec.temperature, top_p=spec.top_p), votes=spec.votes,
        replies=means.replies, budget=means.budget, progress=means.progress,
    )  # fmt: skip


def _scorer(spec: JudgeSpec, pairwise: bool) -> Judge:
    name, what = spec.called, spec.what
    if spec.kind == "rule":
        return RuleJudge(name=name, rule=what, settings=spec.settings, tokenizer=spec.tokenizer, pairwise=pairwise)
    # imported where it is needed: torch takes seconds, for which nobody waits who asks an endpoint or a rule
    from align.judges.scorers import ImplicitJudge, PairwiseJudge, RewardJudge

    if spec.kind == "reward":
        return RewardJudge(name=name, model=what, batch_size=spec.batch_size, pairwise=pairwise)
    if spec.kind == "pairwise":
        return PairwiseJudge(name=name, model=what, batch_size=spec.batch_size, scale=spec.scale)
    if not spec.reference:
        raise UserError(f"judge {spec.judge}: has no reference; name the model it was trained from: reference=...")
    of = {"model": what, "reference": spec.reference, "beta": spec.beta}
    return ImplicitJudge(name=name, batch_size=spec.batch_size, pairwise=pairwise, **of)


def _speaker(spec: JudgeSpec) -> Speaker:
    if spec.kind == "local":
        from align.judges.local import LocalSpeaker

        return LocalSpeaker(spec.what, spec.batch_size)
    if not spec.base_url:
        raise UserError(f"judge {spec.judge}: has no endpoint; add --base-url, such as http://127.0.0.1:8000/v1")
    endpoint = Endpoint(
        base_url=spec.base_url, key_env=spec.key_env, timeout=spec.timeout, retries=spec.retries,
        per_minute=spec.per_minute,
    )  # fmt: skip
    return EndpointSpeaker(
        endpoint=endpoint, model=spec.what, revision=spec.revision, concurrency=spec.concurrency, extra=spec.extra
    )


OF_MODELS = ("temperature", "top_p", "max_tokens", "votes", "rubric")
OF_KIND: dict[str, tuple[str, ...]] = {
    "recorded": (), "rule": ("instructions", "settings", "tokenizer"), "reward": ("instructions", "batch_size"),
    "implicit": ("instructions", "batch_size", "reference", "beta"), "pairwise": ("batch_size", "scale"),
    "local": ("instructions", "batch_size", *OF_MODELS),
    "http": ("instructions", "base_url", "key_env", "revision", "timeout", "retries", "per_minute", "concurrency",
             "extra", *OF_MODELS),
}  # fmt: skip
LEAST: dict[str, float] = {
    "temperature": 0, "max_tokens": 1, "votes": 1, "timeout": 0.001, "retries": 0, "per_minute": 0, "concurrency": 1,
    "batch_size": 1, "scale": 1e-9, "beta": 1e-9, "top_p": 1e-9,
}  # fmt: skip


def takes(kind: str) -> tuple[str, ...]:
    """The details that judges of a kind have, beside their name."""
    return OF_KIND.get(kind, ())


def _refuse_idle(spec: JudgeSpec) -> None:
    """UserError for a kind or a value that there is not, and for what would have no effect."""
    if spec.kind not in KINDS or not spec.what:
        there = ", ".join(f"{kind}:..." for kind in KINDS)
        hint = f" Did you mean rule:{spec.judge}?" if spec.judge in rule_names() else did_you_mean(spec.kind, KINDS)
        if spec.what and Path(f"{spec.kind}.py").is_file():
            hint = f" A function of yours is rule:{spec.judge}"
        raise UserError(f"judge {spec.judge!r}: expected {there}, or a YAML file.{hint}")
    default = JudgeSpec(judge=spec.judge)
    for key, value in asdict(spec).items():
        if key in LEAST and value < LEAST[key]:
            raise UserError(f"judge {spec.judge}: {key}: found {value}; expected {LEAST[key]:g} or more")
        if key not in ("judge", "name", *OF_KIND[spec.kind]) and value != getattr(default, key):
            raise UserError(f"judge {spec.judge}: {key} has no effect on a judge of kind {spec.kind}; leave it out")
    if spec.votes > 1 and spec.temperature == 0:
        raise UserError(f"judge {spec.judge}: {spec.votes} votes at temperature 0 are one; give a temperature above 0")


# ---- reading --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Panelled:
    """Several judges, and how their verdicts become one."""

    judges: tuple[JudgeSpec, ...]
    name: str = "panel"
    rule: str = "majority"
    quorum: int = 0


def read_spec(written: str, given: Mapping[str, Any]) -> JudgeSpec | Panelled:
    """A judge as it is named, with details of the command line, which a file must leave to it."""
    if not written.endswith(SUFFIXES):
        return spec_of({"judge": written, **given}, f"judge {written}")
    path = Path(written).expanduser()
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UserError(f"{path}: cannot be read: {' '.join(str(error).split())}") from None
    if not isinstance(found, dict):
        raise UserError(f"{path}: expected keys with values, such as judge: rule:longer")
    if "judges" in found:
        if clash := [key for key in given if key != "name"]:
            raise UserError(f"{path}: is a panel; {clash[0]} belongs to each of its judges, in the file")
        return _panel(path, {"name": path.stem, **found, **given})
    if clash := [key for key in given if key in found]:
        raise UserError(f"{path}: {clash[0]}: stands in the file and on the command line; keep the one that is meant")
    return spec_of({**found, **given}, str(path))


def _panel(path: Path, found: dict[str, Any]) -> Panelled:
    known = [f.name for f in fields(Panelled)]
    if strange := [key for key in found if key not in known]:
        raise UserError(f"{path}: {strange[0]}: no such key of a panel; there are {', '.join(known)}")
    if not isinstance(found["judges"], list):
        raise UserError(f"{path}: judges: expected a list of judges")
    if found.get("rule", "majority") not in ("majority", "mean"):
        raise UserError(f"{path}: rule: found {found['rule']!r}; expected majority or mean")
    several = [{"judge": one} if isinstance(one, str) else one for one in found["judges"]]
    judges = tuple(spec_of(one, f"{path}: judges.{place}") for place, one in enumerate(several))
    return Panelled(**{**found, "judges": judges})


def spec_of(found: Any, place: str) -> JudgeSpec:
    """UserError for a key that there is not, and for a value of another kind."""
    known = {f.name: f for f in fields(JudgeSpec)}
    if not isinstance(found, Mapping) or "judge" not in found:
        raise UserError(
            f"{place}: expected a judge, such as rule:longer, or keys with `judge` among them; "
            "a panel's file has `judges`, a list of such"
        )
    for key, value in found.items():
        if key not in known:
            near = did_you_mean(str(key), known)
            raise UserError(f"{place}: {key}: no such key; there are {', '.join(known)}.{near}")
        kinds: dict[str, tuple[type, ...]] = {"float": (int, float), "int": (int,), "str": (str,)}
        wanted = kinds.get(str(known[key].type), (dict,))
        if not isinstance(value, wanted) or isinstance(value, bool):
            raise UserError(f"{place}: {key}: found {value!r}; expected {wanted[-1].__name__}")
    return JudgeSpec(**{str(k): v for k, v in found.items()})



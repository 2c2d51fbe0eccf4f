"""What no single key of an online recipe can know: rewards that are not there, batches that do not divide."""

from __future__ import annotations

from dataclasses import fields
from typing import Any
from urllib.parse import urlsplit

from align.errors import UserError
from align.methods.base import Method, OnlineMethod
from align.models.settings import ModelSection
from align.needs import Needs
from align.recipe.comparing import check_comparing, check_rates, check_sampling, check_writers
from align.recipe.look_at_rows import check_columns
from align.recipe.replays import check_replay
from align.recipe.text import Written
from align.rewards.settings import Function, RewardSection
from align.rewards.shape import piece
from align.rewards.verdicts import make_reward_functions
from align.rollout.settings import RolloutSection
from align.rollout.steps import find_segmenter
from align.rollout.turns import find_environment
from align.training.settings import TrainingSection

PLACES = ("--host", "--port")  # where a server listens


def is_online(cls: type[Method[Any]] | None) -> bool:
    return cls is not None and issubclass(cls, OnlineMethod)


def check_online(
    written: Written, cls: type[Method[Any]], method: Method[Any] | None, sections: dict[str, Any]
) -> None:
    if (rollout := sections["rollout"]) is not None:
        _rollout(written, rollout, cls)
        check_sampling(written, cls, rollout)
        _environment(written, rollout)
        _steps(written, rollout, cls.needs())
        _window(written, rollout, cls)
        _vllm(written, rollout)
        if rollout.engine == "vllm" and (model := sections["model"]) is not None and model.load_in_4bit:
            why = "a server is given the adapter merged, which 4 bits would round; set rollout.engine: local"
            written.wrong("model.load_in_4bit", why)
        if isinstance(method, OnlineMethod):
            _correction(written, rollout, method)
            check_writers(written, method, sections)
        if sections["training"] is not None:
            _division(written, rollout, sections["training"])
    if (reward := sections["reward"]) is not None:
        functions = _reward(written, reward)
        check_comparing(written, cls, functions, sections)
        if isinstance(method, OnlineMethod):
            check_rates(written, method, functions, reward)
        if sections["data"] is not None:
            check_columns(written, sections["data"], cls.needs(), functions)
        if rollout is not None and rollout.replay:
            check_replay(written, rollout, reward)
    if (model := sections["model"]) is not None:
        _model(written, model)


def _rollout(written: Written, r: RolloutSection, cls: type[Method[Any]]) -> None:
    smallest = getattr(cls, "smallest_group", 1)
    if r.num_generations < smallest:
        written.wrong(
            "rollout.num_generations",
            f"found {r.num_generations}; {cls.name} compares the completions of a prompt and needs {smallest} or more",
        )
    if r.staleness not in (0, 1):
        written.wrong(
            "rollout.staleness", f"found {r.staleness}; expected 0, or 1 for the weights of one experience ago"
        )
    _sampling(written, r)
    _idle_correction(written, r)


def _sampling(written: Written, r: RolloutSection) -> None:
    """From which distribution tokens are drawn, and what ends them."""
    biased = {"top_k": r.top_k > 0, "top_p": r.top_p < 1, "min_p": r.min_p > 0}
    for key in (k for k, is_biased in biased.items() if is_biased and not r.biased_sampling):
        written.wrong(
            f"rollout.{key}",
            f"found {getattr(r, key):g}: tokens would be drawn from another distribution than the one whose "
            "gradient is taken, which biases it. Remove the key, or consent with rollout.biased_sampling: true",
        )
    if "" in r.stop_strings:
        written.wrong("rollout.stop_strings", "has an empty text, which every completion contains; remove it")


def _correction(written: Written, r: RolloutSection, method: OnlineMethod[Any]) -> None:
    """Weights on advantages correct only a gradient that they weigh."""
    levels = method.correction_levels
    if not levels:
        why = f"{method.name} is not linear in its advantages, so weights on them would not correct its gradient"
        if r.correction != "none":
            written.wrong("rollout.correction", f"found {r.correction}; {why}. Remove the key")
        if r.staleness:
            written.wrong(
                "rollout.staleness", f"older weights have written than those that learn, and {why}; set it to 0"
            )
    elif r.staleness and r.correction == "none":
        written.wrong(
            "rollout.staleness", "older weights have written than those that learn; set rollout.correction: truncate"
        )
    elif r.correction != "none" and r.correction_level not in levels:
        why = f"{method.name} has one ratio for a completion, and weights of tokens would be lost in it"
        written.wrong("rollout.correction_level", f"found {r.correction_level}; {why}; expected {' or '.join(levels)}")
    if r.correction != "none" and not 0 <= r.correction_low < r.correction_high:
        written.wrong("rollout.correction_high", f"found {r.correction_high:g}; expected more than correction_low")


def _idle_correction(written: Written, r: RolloutSection) -> None:
    default = RolloutSection()
    keys = ("correction_level", "correction_high", "correction_low")
    given = [key for key in keys if getattr(r, key) != getattr(default, key)]
    if r.correction == "none":
        for key in given:
            written.wrong(f"rollout.{key}", "has no effect without rollout.correction; set it, or remove the key")
    elif r.correction == "truncate" and "correction_low" in given:
        written.wrong(
            "rollout.correction_low",
            "has no effect: rollout.correction: truncate only cuts large weights; set mask, or remove the key",
        )


def _environment(written: Written, r: RolloutSection) -> None:
    if not r.environment:
        if r.max_turns != RolloutSection().max_turns:
            written.wrong("rollout.max_turns", "has no effect without rollout.environment; set it, or remove the key")
        return
    try:
        find_environment(r.environment)
    except UserError as error:
        written.wrong("rollout.environment", str(error).removeprefix(f"environment {r.environment}: "))


def _steps(written: Written, r: RolloutSection, needs: Needs) -> None:
    """Completions cut into steps, and what is done at their beginnings."""
    branching = needs.batch.stepwise
    valued = branching or any("values" in needs.live(m) for m in needs.members)
    if r.audit and not valued:
        written.wrong("rollout.audit", "the method values no states; remove the section")
    if not (branching or r.audit):
        if r.steps != RolloutSection().steps:
            written.wrong("rollout.steps", "has no effect: nothing is done with the steps of a completion; remove it")
        return
    if r.environment:
        written.wrong("rollout.environment", "answers whole turns, and completions are to begin anew within one")
    try:
        find_segmenter(r.steps)
    except UserError as error:
        written.wrong("rollout.steps", str(error))


def _window(written: Written, r: RolloutSection, cls: type[Method[Any]]) -> None:
    if r.window <= 0:
        return
    if not 1 < r.window < r.max_completion_length:
        written.wrong(
            "rollout.window",
            f"found {r.window}; expected 2 to {r.max_completion_length - 1} new tokens an experience (the last one of "
            "a window is never learned from, and max_completion_length is the whole), or 0 for whole completions",
        )
    if not cls.needs().batch.windowed:
        written.wrong("rollout.window", f"{cls.name} learns from whole completions; remove the key")
    others = {"staleness": r.staleness, "environment": r.environment, "max_refills": r.max_refills, "audit": r.audit}
    for key in (key for key, value in others.items() if value):
        written.wrong(f"rollout.{key}", "is not there for completions that are written a window at a time; remove it")
    if r.correction != "none" and r.correction_level != "token":
        why = "the tokens of a completion are several policies', and each is corrected by itself: set token"
        written.wrong("rollout.correction_level", f"found {r.correction_level}; {why}")


def _vllm(written: Written, r: RolloutSection) -> None:
    """Keys of a server, and what vLLM cannot do."""
    if r.engine != "vllm":
        for f in fields(r):
            if f.name.startswith("vllm_") and getattr(r, f.name) != getattr(RolloutSection(), f.name):
                written.wrong(
                    f"rollout.{f.name}", "has no effect without rollout.engine: vllm; set it, or remove the key"
                )
        return
    for url in dict.fromkeys(r.server_urls):
        if not (url.startswith(("http://", "https://")) and urlsplit(url).hostname):
            written.wrong("rollout.vllm_server_base_url", f"found {url}; expected a URL such as http://127.0.0.1:8000")
        if r.server_urls.count(url) > 1:
            written.wrong("rollout.vllm_server_base_url", f"found {url} more than once; name each server once")
    if not (r.server_urls or r.server_commands):
        written.wrong("rollout.vllm_command", "found nothing; expected what starts a server, such as vllm serve")
    if r.server_urls and r.vllm_arguments:
        written.wrong("rollout.vllm_arguments", "are for a server that the run starts; remove them, or the base URL")
    for word in r.vllm_arguments:
        option = word.partition("=")[0].replace("_", "-")
        if len(option) > 3 and any(known.startswith(option) for known in PLACES):  # vLLM understands beginnings, too
            cure = "the run chooses a free port, and the address is rollout.vllm_host: remove it here"
            written.wrong("rollout.vllm_arguments", f"found {word}; {cure}")
    if r.temperature != 1 and (r.top_k > 0 or r.top_p < 1 or r.min_p > 0):
        written.wrong(
            "rollout.temperature",
            f"found {r.temperature:g} beside top_k, top_p or min_p; vLLM gives log-probabilities before all of these "
            "or after all of them, and training wants those between. Set temperature to 1, or engine to local",
        )


def notes_of(r: RolloutSection | None) -> tuple[str, ...]:
    """What is said aloud once."""
    if r is None or r.engine != "vllm":
        return ()
    return (
        "rollout.engine: vllm: a run that is resumed loses and repeats no prompt, but does not go on bitwise: a "
        "server's rounding depends on what it does side by side",
    )


def _division(written: Written, r: RolloutSection, t: TrainingSection) -> None:
    if t.num_minibatches != 1:
        size = t.num_minibatches * t.batch_size
        written.wrong(
            "training.num_minibatches",
            f"found {t.num_minibatches}, which divides rows that are there before; where the policy writes say how "
            f"many prompts an experience has, rollout.num_prompts: {size}",
        )
    if r.num_prompts and r.num_prompts % t.batch_size:
        near = sorted({n for k in (r.num_prompts // t.batch_size, r.num_prompts // t.batch_size + 1)
                       if (n := k * t.batch_size)})  # fmt: skip
        divisors = [n for n in range(1, r.num_prompts + 1) if r.num_prompts % n == 0]
        written.wrong(
            "rollout.num_prompts",
            f"found {r.num_prompts}, which training.batch_size {t.batch_size} (prompts of one step) does not divide; "
            f"set it to {' or '.join(map(str, near))}, or batch_size to one of {', '.join(map(str, divisors))}",
        )


def _reward(written: Written, r: RewardSection) -> dict[str, Any]:
    """The functions that there are, by their keys."""
    found: dict[str, Any] = {}
    if not r.functions:
        written.wrong(
            "reward.functions", "missing; name what completions earn by, such as [repetition] or [my_file:function]"
        )
    for i, function in enumerate(r.functions):
        alone = RewardSection(functions=[function])
        try:
            (found[f"reward.functions.{i}"],) = make_reward_functions(alone).functions.values()
        except UserError as error:
            name = function if isinstance(function, str) else function.name
            written.wrong(f"reward.functions.{i}", str(error).removeprefix(f"reward {name}: "))
        if isinstance(function, Function) and function.weight == 0:
            written.wrong(f"reward.functions.{i}.weight", "found 0: the function would be called for nothing")
    for i, one in enumerate(r.shape):
        try:
            piece(one)
        except ValueError as error:
            written.wrong(f"reward.shape.{i}", str(error))
    return found


def _model(written: Written, m: ModelSection) -> None:
    if m.reference == "cached":
        written.wrong("model.reference", "cached is for rows that are there before training; use copy, or auto")
    if m.critic and m.critic.warmup_flat and not m.critic.warmup_steps:
        written.wrong("model.critic.warmup_flat", "ends the warm-up, and warmup_steps is 0; set that to the most steps")

"""What a metric is: which way is better, what it is called, in what unit, and whether its axis begins at zero.

One table of what this package reports, for whoever keeps the best evaluation, shows numbers or draws them. A method
says the same of a number of its own where it makes it: `metric(values, mask, About("smaller", "Surprise", "nats"))`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

Better = Literal["larger", "smaller", ""]


@dataclass(frozen=True)
class About:
    """A metric in words."""

    better: Better = ""  # empty: neither by itself
    label: str = ""  # on a page; empty: its name
    unit: str = ""
    brief: str = ""  # on a terminal's line; empty: its name
    share: bool = False  # lies between 0 and 1, and reads better in per cent
    zero: bool = False  # an amount whose size is the message: its axis begins at zero
    within: str = ""  # a section of the recipe: numbers of runs that differ in it are not the same quantity
    # (ROLLOUT: where one run has it and the other not, for tokens that were given are others than those it wrote)

    @property
    def title(self) -> str:
        """The label with its unit; empty where there is no label."""
        return f"{self.label}, {self.unit}" if self.label and self.unit else self.label


NATS = "nats a token"
METHOD, REWARD, ROLLOUT = "method", "reward", "rollout"  # sections of the recipe
TABLE: Mapping[str, About] = {
    # ---- of every step
    "loss": About("smaller", within=METHOD),
    "grad_norm": About(label="Gradient norm", zero=True),
    "learning_rate": About(zero=True),
    "tokens_per_second": About("larger", "Tokens per second", zero=True),
    "num_tokens": About(label="Tokens so far", zero=True),
    "memory_mb": About("smaller", "Memory peak", "MiB", brief="memory", zero=True),
    # ---- terms of losses
    "policy": About("smaller", within=METHOD),
    "value": About("smaller", within=METHOD),
    "kl_penalty": About("smaller", within=METHOD),
    # ---- preferences
    "accuracy": About("larger", share=True),
    "win_rate": About("larger", share=True),
    "likelihood_accuracy": About("larger", share=True),
    "margin": About("larger", within=METHOD),
    "ties": About("smaller", share=True),
    "logps": About("larger", "Log-probabilities"),
    "chosen_rewards": About("larger", within=METHOD),
    "rejected_rewards": About("smaller", within=METHOD),
    "chosen_logps": About("larger", "Chosen log-probability"),
    "rejected_logps": About("smaller", "Rejected log-probability"),
    "desirable_rewards": About("larger", within=METHOD),
    "undesirable_rewards": About("smaller", within=METHOD),
    "desirable_logps": About("larger"),
    "undesirable_logps": About("smaller"),
    "odds_ratio": About("smaller", within=METHOD),
    "chosen_weight": About(within=METHOD),
    "rejected_weight": About(within=METHOD),
    "smallest_weight": About("larger", within=METHOD),
    "negative_weights": About("smaller", share=True, within=METHOD),
    "guide_margin": About("larger", within=METHOD),
    "shortfall": About("smaller", "Chosen log-probability lost", "nats"),
    "baseline": About(within=METHOD),
    "effective_sources": About(label="Effective number of sources", zero=True),
    "weights": About(label="Weights of the sources", share=True),
    "sources": About("smaller", "Losses of the sources", within=METHOD),
    "twin": About("smaller", "Losses of the sources under the twin", within=METHOD),
    # ---- demonstrations
    "token_accuracy": About("larger", share=True),
    "likelihood": About("smaller"),  # a negative log-likelihood
    "nll": About("smaller", "Negative log-likelihood", NATS),
    "perplexity": About("smaller"),
    "entropy": About(label="Entropy", unit=NATS, within=ROLLOUT),
    # ---- what is written and earned
    "reward": About("larger", "Reward, all together", within=REWARD),
    "rewards": About("larger", "Rewards", within=REWARD),
    "reward_std": About(within=REWARD),
    "kl": About("smaller", "KL from the reference", "nats a completion", brief="KL"),
    "kl_k3": About("smaller", "the same by k3"),
    "target_kl": About(label="KL from the target", unit="nats a completion"),
    "completion_length": About(),
    "truncated": About("smaller", share=True),
    "ended": About("larger", share=True),
    "kept": About(share=True),
    "equal_groups": About("smaller", "Prompts whose completions earned the same", share=True),
    "not_judged": About("smaller", share=True),
    "failed_rewards": About("smaller", share=True),
    "share": About(share=True),
    "completions": About(label="Completions that ended"),
    "written_tokens": About(label="Tokens written for an experience"),
    "scored_tokens": About(label="Tokens scored before learning"),
    "seconds": About("smaller", "Seconds of an experience"),
    "auxiliary": About(label="Completions written to help"),
    "auxiliary_tokens": About(label="Tokens of what was written to help"),
    "steps_per_completion": About(label="Steps of a completion"),
    "unfinished": About(label="Completions that go on", share=True),
    "begun_before": About(label="Completions begun in an earlier experience", share=True),
    "hinted": About(label="Completions that were told a hint", share=True),
    "prefix_cache_hits": About("larger", "Prompt tokens that the server still knew", share=True),
    # ---- how far the policy has gone
    "ratio": About(),
    "largest_ratio": About(label="Largest ratio of a row"),
    "ratio_gap": About(),
    "ref_gap": About(),
    "teacher_kl": About("smaller", "KL from the teacher", NATS, zero=True),
    "k1": About(label="Old log-probability less the new", unit=NATS),
    "residual": About("smaller", within=METHOD),
    "off_policy": About(share=True),
    "pair_weight": About(within=METHOD),
    "beta": About(label="Beta"),
    "num_rounds": About(label="Rounds that are over"),
    "clip_fraction": About(share=True),
    "correction_bounded": About(share=True),
    "sampler_gap": About("smaller", "Sampler against trainer", NATS),
    "approx_kl": About("smaller", "KL from the policy that wrote", NATS),
    "explained_variance": About("larger", "Explained variance of the values"),
}
OF_ONLINE: Mapping[str, str] = {  # that `policy_report` makes for every method whose policy writes
    "entropy": "of the policy per token (nats)",
    "ratio": "mean pi / pi_old of a token",
    "approx_kl": "mean k3 estimate of KL(pi_old || pi) per token (nats)",
    "sampler_gap": "mean distance of the engine's log-probabilities from this model's (nats)",
    "clip_fraction": "share of tokens whose gradient the clip has taken",
}
OF_PAIRS: Mapping[str, str] = {  # that `pair_report` makes; u of an answer is its log-ratio to the reference, summed
    "accuracy": "share of pairs with u_w > u_l (a tie is a miss)",
    "margin": "beta (u_w - u_l)",
    "chosen_rewards": "beta u_w",
    "rejected_rewards": "beta u_l",
    "chosen_logps": "summed log-probability of the chosen answer (nats)",
    "rejected_logps": "summed log-probability of the rejected answer (nats)",
    "likelihood_accuracy": "share of pairs whose chosen answer the policy finds likelier",
}
SHARES = tuple(name for name, about in TABLE.items() if about.share)


def about(name: str, told: Mapping[str, About] | None = None) -> About:
    """Of a metric by the name under which it is logged: `eval/` and what stands before it does not change what it is.

    `told` are those that a method has declared itself, which go first. What nobody has declared is neither better when
    larger nor when smaller.
    """
    inner = name.rsplit("eval/", 1)[-1]
    if found := (told or {}).get(inner):
        return found
    if inner.startswith("rewards/"):  # a reward function may be called like a metric
        return About("larger", within=REWARD)
    last = inner.rsplit("/", 1)[-1]
    if found := TABLE.get(last):
        return found
    share = last.endswith(SHARES)
    known = share or last.startswith("seconds_")
    return About("smaller" if last.endswith("loss") else "", share=share, within="" if known else METHOD)


def of_term(name: str, weight: float, declared: About | None) -> About:
    """Of a term of a loss: what is minimised is better when smaller, unless it is declared otherwise."""
    if declared is not None and (declared.better or not weight):
        return declared
    better: Better = "" if not weight else "smaller" if weight > 0 else "larger"
    plain = declared or about(name)
    return dataclasses.replace(plain, better=better or plain.better)


def as_text(found: About) -> dict[str, Any]:
    """What is not at its default, for a file. That it is a quantity of the method's own need not be said."""
    told = (f for f in dataclasses.fields(found) if f.name != "within")
    return {f.name: v for f in told if (v := getattr(found, f.name)) != f.default}


def from_text(told: Any) -> dict[str, About]:
    """What `as_text` wrote of several metrics; what is not as it writes it is left out."""
    kinds: dict[str, Any] = {f.name: type(f.default) for f in dataclasses.fields(About)}
    whole = cast("dict[str, Any]", told if isinstance(told, dict) else {})
    found: dict[str, About] = {}
    for name, values in whole.items():
        written = cast("dict[str, Any]", values if isinstance(values, dict) else {})
        found[name] = About(**{k: v for k, v in written.items() if isinstance(v, kinds.get(k, ()))})
    return found

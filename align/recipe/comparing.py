"""What an online recipe cannot have whose rewards compare a prompt's completions with each other.

Beside that, what it cannot have where its rewards are those of a game, and where copies of the policy write.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from align.methods.base import Method, OnlineMethod
from align.recipe.text import Written
from align.rewards.base import compares
from align.rewards.settings import Function, RewardSection
from align.rewards.verdicts import named
from align.rollout.settings import RolloutSection
from align.scoring.role_table import held_against
from align.training.settings import TrainingSection

METRIC = "training.metric_for_best_model"
CURE = "name a reward beside it that judges a completion alone"
BIASED = {"top_k": 0, "top_p": 1.0, "min_p": 0.0, "temperature": 1.0}  # what the policy itself writes with


def check_rates(
    written: Written, method: OnlineMethod[Any], functions: Mapping[str, Any], reward: RewardSection
) -> None:
    """Where the method takes the reward for win rates it is those and nothing else, and where it makes its own it is
    none of them. `functions`: those that could be made, by the dotted keys that name them."""
    comparing = [key for key, function in functions.items() if compares(function)]
    if method.wants_rates is False and comparing:
        finding = f"compares a prompt's completions, and {method.name} takes the reward for a score of each alone"
        written.wrong(comparing[0], f"{finding}; see `align methods {method.name}`")
    if method.wants_rates:
        only = reward.functions[0] if len(reward.functions) == 1 else None
        weight = only.weight if isinstance(only, Function) else 1.0
        whole = only is not None and weight == 1 and not reward.shape
        if not (whole and len(comparing) == len(functions)):
            finding = f"{method.name} takes it for the win rates of one function that compares completions"
            written.wrong("reward", f"{finding}, such as win_rate, at weight 1 and without shape; remove all else")


def check_comparing(
    written: Written, cls: type[Method[Any]], functions: Mapping[str, Any], sections: Mapping[str, Any]
) -> None:
    """`functions`: those that could be made, by the dotted keys that name them."""
    comparing = [key for key, function in functions.items() if compares(function)]
    if not comparing:
        return
    who = f"{comparing[0]} compares a prompt's completions"
    if sections["rollout"] is not None:
        _rollout(written, sections["rollout"], who)
    reward: RewardSection = sections["reward"]
    alone = [name for i, (name, _) in enumerate(named(reward.functions)) if f"reward.functions.{i}" not in comparing]
    if cls.needs().batch.hinted and not alone:
        finding = f"{cls.name} tells hints where all completions fail, and {who}: none of them fails by itself"
        written.wrong("reward.functions", f"{finding}; {CURE}")
    rollout = sections["rollout"]
    rival = rollout is not None and held_against(cls, rollout.engine)
    if sections["training"] is not None and not rival:
        _training(written, sections["training"], alone, who)


def _rollout(written: Written, r: RolloutSection, who: str) -> None:
    if r.num_generations < 2:
        written.wrong("rollout.num_generations", f"found {r.num_generations}; {who}: set it to 2 or more")
    if r.window > 0:
        written.wrong("rollout.window", f"{who}, and those would end in different experiences; remove the key")
    if r.audit:
        written.wrong("rollout.audit", f"{who}: a state has no worth of its own then; remove the section")


def _training(written: Written, t: TrainingSection, alone: Sequence[str], who: str) -> None:
    """A held-out prompt has one completion, which earns what it earns alone."""
    metric = t.metric_for_best_model if written.has(METRIC) else "reward"
    known = [f"rewards/{name}" for name in alone] + (["reward"] if alone else [])
    if not metric.startswith("reward") or metric in known:
        return
    finding = f"goes by {metric}, and {who}: a held-out prompt has only one, which is not judged"
    for key in ("load_best_model_at_end", "early_stopping_patience"):
        if getattr(t, key):
            written.wrong(f"training.{key}", f"{finding}; {CURE}")


# ---- games -----------------------------------------------------------------------------------------------------------


def check_sampling(written: Written, cls: type[Method[Any]], r: RolloutSection) -> None:
    """No consent makes estimates of a game right: win rates and log-ratios would be of different policies."""
    for key, plain in BIASED.items() if getattr(cls, "plays", False) else ():
        if getattr(r, key) != plain and not (key == "temperature" and r.temperature <= 0):
            said = f"found {getattr(r, key):g}; {cls.name} plays a game of the policy as it is: what it wins and pays "
            said += "would be those of another distribution than that of final/"
            written.wrong(f"rollout.{key}", f"{said}. Set it to {plain:g}")


def check_writers(written: Written, method: OnlineMethod[Any], sections: Mapping[str, Any]) -> None:
    """Copies that write, and copies that are made before writing."""
    r: RolloutSection | None = sections["rollout"]
    if r is None:
        return
    if method.writers():
        who = f"{method.name} has {', '.join(method.writers())} write, beside the policy"
        if r.engine != "local":
            written.wrong("rollout.engine", f"found {r.engine}; {who}, and a server has only the policy: set local")
        if r.staleness:
            written.wrong("rollout.staleness", f"{who}, as it is when it is the policy's turn; set it to 0")
    try:
        begins = [move for move in method.moves() if (move.when, move.unit) == ("before writing", "step")]
    except ValueError:  # what is wrong with them is told already
        return
    training: TrainingSection | None = sections["training"]
    if not begins or training is None or not training.batch_size:
        return
    lasting = max(r.lasting(training.batch_size), 1)
    odd = [n for move in begins for n in (move.every, move.at) if n % lasting]
    if odd:
        key = "num_iterations" if r.num_iterations > 1 else "num_prompts"
        finding = f"an experience lasts {lasting} steps, and {method.name} moves weights before writing every {odd[0]}"
        written.wrong(f"rollout.{key}", f"{finding}: not where one begins. Make an experience last fewer steps")

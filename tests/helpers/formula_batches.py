"""Random batches for the formulas of pages, and what pages say of them in words: who is learned from, what sets are."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import method_batches as batches
import torch
from formula_world import Answer, Token, World
from rollout_batches import random_rollouts
from torch import Tensor

from align.functional.selection import best_against_worst
from align.methods.base import Method, OnlineMethod

SIZE = 4  # completions of a prompt
GREEDY = 1  # which of them stands for the greedy one
Says = Callable[[Any], bool]


@dataclass
class Told:
    """What a page says in words."""

    rows: list[int]  # that are learned from
    numbers: dict[str, float] = field(default_factory=dict)
    of_rows: dict[str, Any] = field(default_factory=dict)
    sets: dict[str, Any] = field(default_factory=dict)
    says: dict[str, Says] = field(default_factory=dict)
    pairs: list[tuple[int, int]] = field(default_factory=list)  # of the better and of the worse completion
    unbiased: bool = False


def batch_of(method: Method[Any]) -> Any:
    """Random rows, with what the method makes of them; a policy that has moved wrote what is written."""
    if isinstance(method, OnlineMethod):
        made = random_rollouts(method, size=SIZE, width=5)
        if method.name == "t_ppo":
            number = torch.arange(len(made))
            done = number % 3 != 0
            made = dataclasses.replace(made, done=done, starts=number % 2, rewards=made.rewards * done)
        if method.name == "remax":
            made = dataclasses.replace(made, auxiliary=torch.arange(len(made)) % SIZE == GREEDY)
        made = dataclasses.replace(made, earned=made.rewards + 0.3)  # before it was shaped
        return method.advantages(made)
    tensors = batches.random_tensors(method.needs(), rows=5, width=5)
    if "completion.old_logps" in tensors:
        moved = torch.rand(5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) - 0.5
        tensors["completion.old_logps"] = tensors["completion.logps"].detach() + moved
    return method.prepare(batches.build(method.needs(), tensors))


def told_of(method: Any, batch: Any) -> Told:
    told = Told(list(range(len(batch))))
    if isinstance(method, OnlineMethod):
        told.numbers = {"k": SIZE, "K": SIZE}
        told.of_rows = dict.fromkeys(("R", r"\mathrm{reward}", "p"), batch.rewards)
    if method.name in BY_METHOD:
        BY_METHOD[method.name](told, method, batch)
    return told


def _kto(told: Told, method: Any, batch: Any) -> None:
    told.sets["M"] = [Answer("mismatched", row) for row in told.rows]
    told.says = {
        "desirable": lambda scope: bool(batch.labels[scope.answer.row]),
        "undesirable": lambda scope: not batch.labels[scope.answer.row],
    }


def _reward_model(told: Told, method: Any, batch: Any) -> None:
    told.of_rows = {"r_w": batch.chosen.scores, "r_l": batch.rejected.scores, "m": batch.margins}
    told.of_rows["s"] = batch.soft_labels


def _apa(told: Told, method: Any, batch: Any) -> None:
    told.unbiased = True


def _d3s(told: Told, method: Any, batch: Any) -> None:
    told.sets["S"] = _tokens(method.keep(batch), batch)


def _loop(told: Told, method: Any, batch: Any) -> None:
    means = batch.rewards.view(-1, SIZE).mean(1).repeat_interleave(SIZE)
    apart = (batch.rewards - means) * SIZE / (SIZE - 1)
    told.rows = (apart.abs() >= method.smallest_advantage).nonzero()[:, 0].tolist()


def _raft(told: Told, method: Any, batch: Any) -> None:
    told.rows = [SIZE * prompt + int(best) for prompt, best in enumerate(batch.rewards.view(-1, SIZE).argmax(1))]
    told.sets["S"] = told.rows


def _reinforce(told: Told, method: Any, batch: Any) -> None:
    told.numbers["b"] = method.reward_sum / method.num_rewards


def _remax(told: Told, method: Any, batch: Any) -> None:
    greedy = batch.rewards.view(-1, SIZE)[:, GREEDY].repeat_interleave(SIZE)
    told.of_rows[r"\mathrm{reward}_\mathrm{greedy}"] = greedy
    told.rows = [row for row in told.rows if row % SIZE != GREEDY]


def _ranked(told: Told, method: Any, batch: Any) -> None:
    best, worst = best_against_worst(batch.rewards, batch.groups)
    told.pairs = [(int(row), int(worst[row])) for row in best.nonzero()]
    if getattr(method, "learned", "pair") == "pair":
        told.rows = sorted(row for pair in told.pairs for row in pair)


def _t_ppo(told: Told, method: Any, batch: Any) -> None:
    mask = batch.completion.mask
    told.sets["S"] = _tokens(mask & (mask.cumsum(-1) > batch.starts[:, None]), batch)
    told.sets["E"] = _tokens(mask & batch.done[:, None], batch)
    told.says = {
        "where the completion has ended": lambda scope: bool(batch.done[scope.answer.row]),
        "where it goes on": lambda scope: not batch.done[scope.answer.row],
    }


def _vineppo(told: Told, method: Any, batch: Any) -> None:
    """Its steps have no values here, so that all advantages were 0: others stand for them."""
    draw = torch.randn(batch.advantages.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    batch.advantages.copy_(draw.masked_fill(~batch.completion.mask, 0.0))


def _vc_ppo(told: Told, method: Any, batch: Any) -> None:
    told.sets["G"] = _tokens(batch.completion.mask & (batch.earned > 0)[:, None], batch)


BY_METHOD: dict[str, Callable[[Told, Any, Any], None]] = {
    "kto": _kto, "reward_model": _reward_model, "apa": _apa, "d3s": _d3s, "loop": _loop, "raft": _raft,
    "reinforce": _reinforce, "remax": _remax, "sppo": _ranked, "accelerated_po": _ranked, "t_ppo": _t_ppo,
    "vc_ppo": _vc_ppo, "vineppo": _vineppo,
}  # fmt: skip


def _tokens(chosen: Tensor, batch: Any) -> list[tuple[int, Token]]:
    """The tokens of a mask, with their rows."""
    place = batch.completion.mask.cumsum(-1)
    return [(int(i), Token(Answer("completion", int(i)), int(place[i, t]))) for i, t in chosen.nonzero()]


def world_of(method: Method[Any], batch: Any, told: Told, knobs: dict[str, float]) -> World:
    """`knobs`: by the symbols that stand for them."""
    members = {name: getattr(batch, name) for name in method.needs().members}
    places = {
        Answer(name, row): member.mask[row].nonzero()[:, 0].tolist()
        for name, member in members.items()
        for row in range(len(batch))
    }

    def column(name: str) -> Callable[[Token], Tensor]:
        return lambda t: getattr(members[t.answer.member], name)[t.answer.row, places[t.answer][t.place - 1]]

    def advantage(token: Token) -> Tensor:
        return batch.advantages[token.answer.row, places[token.answer][token.place - 1]]

    columns = {name for member in members.values() for name in vars(member) if name.endswith("logps")}
    roles = {name.removesuffix("_logps"): name for name in columns}
    first = next(iter(members))
    lengths = {answer: len(found) for answer, found in places.items()}
    return World(
        lengths=lengths,
        groups=batch.groups.tolist() if hasattr(batch, "groups") else list(range(len(batch))),
        rows=told.rows,
        policies={r"\pi" if r == n else rf"\pi_\mathrm{{{r}}}": column(n) for r, n in roles.items()},
        numbers={"N": sum(lengths[Answer(first, i)] for i in told.rows), "B": len(told.rows), **told.numbers, **knobs},
        of_rows=told.of_rows,
        of_tokens={"V": column("values"), r"V^\mathrm{old}": column("old_values"), "A": advantage},
        sets=told.sets,
        says=told.says | {
            "at the last token": lambda scope: scope.token.place == lengths[scope.answer],
            "before it": lambda scope: scope.token.place < lengths[scope.answer],
        },
        unbiased=told.unbiased,
        member=first,
    )  # fmt: skip

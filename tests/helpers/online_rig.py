"""An online method on the bandit, in one process: the real source of experience around a tiny model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from bench_of_steps import alone, learn, tiny_llama

from align.lab import bandit
from align.needs import copies_of
from align.rewards.verdicts import RewardFunctions
from align.rollout.engine import Sampling
from align.rollout.log import RolloutLog
from align.rollout.policy_engine import LocalEngines
from align.rollout.settings import RolloutSection
from align.rollout.writer import Prompt, Writer
from align.scoring.experience import Batching, ModelRole, Role
from align.scoring.plan import Limits
from align.scoring.role_table import named_by
from align.scoring.score import Kernel, Scorer
from align.sources.harvest import Harvester
from align.sources.online import Online
from align.training.snapshot import Progress
from align.training.step import StepResult, Trainee
from align.training.team import Team


class Words:
    """Stands for a tokenizer: a token's text is its number."""

    pad_token_id = bandit.BOS

    def decode(self, ids: Any, **options: Any) -> str:
        return " ".join(map(str, ids))


@dataclass
class OnlineRig:
    source: Online
    team: Team
    progress: Progress
    rate: float

    @property
    def trainee(self) -> Trainee:
        return self.team.policy

    def step(self) -> StepResult:
        self.team.move("before writing", self.progress.step)
        portion = self.source.next(self.progress)
        self.team.move("before learning", self.progress.step)
        result = learn(self.trainee, portion.method, portion.experience, self.source.batching, self.rate)
        self.team.move("after step", self.progress.step)
        self.progress.step += 1
        return result

    def earned(self) -> float:
        """The expected worth of the first token, by the policy's own probabilities."""
        prompts = [bandit.prompt(q) for q in range(bandit.NUM_PROMPTS)]
        ids = torch.stack([torch.from_numpy(p).long() for p in prompts])
        with torch.no_grad():
            probs = self.trainee.module.model(input_ids=ids).logits[:, -1].softmax(-1)
        worth = torch.tensor([[bandit.worth(q, t) for t in range(bandit.VOCABULARY)] for q in range(len(prompts))])
        return (probs * worth).sum(-1).mean().item()


def prompts(start: int, stop: int) -> Sequence[Prompt]:
    return [
        Prompt(row=n, number=n, tokens=bandit.prompt(n), columns={"prompt": "", "question": n % bandit.NUM_PROMPTS})
        for n in range(start, stop)
    ]


def every_token(tokens: Sequence[int]) -> list[int]:
    """A step each."""
    return list(range(len(tokens)))


@cache
def expert() -> Scorer:
    """Who plays every model that a recipe would name: one that knows the bandit, prefers good arms, and then ends."""
    model = tiny_llama("lm", 1, bandit.VOCABULARY)
    arms = range(bandit.FIRST_ARM, bandit.FIRST_PROMPT)
    said = torch.tensor([[*bandit.prompt(q), arm] for q in range(bandit.NUM_PROMPTS) for arm in arms])
    worth = torch.tensor([[bandit.worth(q, t) for t in range(bandit.VOCABULARY)] for q in range(bandit.NUM_PROMPTS)])
    first = (10 * worth).softmax(-1).repeat_interleave(len(arms), 0)
    then = torch.nn.functional.one_hot(torch.full((len(said),), bandit.EOS), bandit.VOCABULARY)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.0)
    for _ in range(60):
        wrong = -(torch.stack([first, then], 1) * model(input_ids=said).logits[:, 1:].log_softmax(-1)).sum(-1).mean()
        optimizer.zero_grad()
        wrong.backward()
        optimizer.step()
    return Scorer(model, Kernel("sdpa")).eval().requires_grad_(False)


def online_rig(method: Any, folder: Path, *, seed: int = 0, rate: float = 1e-2, **rollout: Any) -> OnlineRig:
    """Eight prompts a step, eight completions each."""
    settings = RolloutSection(**{"max_completion_length": 2, **rollout})
    valued = any("values" in method.needs().live(m) for m in method.needs().members)
    policy = Scorer(tiny_llama("lm", seed, bandit.VOCABULARY), Kernel("sdpa"), value_head=valued)
    reference, learned = _again(seed), frozenset(name for name, _ in policy.named_parameters())
    optimizer = torch.optim.AdamW(policy.parameters(), lr=rate, weight_decay=0.0)
    trainee = Trainee(policy, optimizer, alone(), 1.0, changing=learned)
    batching = Batching(method.needs(), "shared", Limits(10_000, 10_000), alone())
    sampling = Sampling(max_completion_length=settings.max_completion_length, stop_token_ids=(bandit.EOS,))
    functions = RewardFunctions({"bandit": bandit.reward}, {"bandit": 1.0})
    copies = {role: _again(seed) for role in copies_of(method)}
    engines = LocalEngines(policy, Words(), settings.max_rows, alone(), others=copies)
    steps = every_token if "states" in method.needs().prepared else None
    writer = Writer(engines, Words(), functions, alone(), sampling, settings.max_rows, seed, steps=steps)
    every: dict[str, Role] = {"old": ModelRole(policy), "ref": ModelRole(reference)}
    every |= {r: ModelRole(expert()) for r in named_by(method.needs()) if r not in copies}
    every |= {r: ModelRole(copy) for r, copy in copies.items()}
    roles = {r: every[r] for r in method.needs().roles() if r in every}
    source = Online(
        method=method, writer=writer, harvester=Harvester(batching, roles, functions, (), settings), batch_size=8,
        prompts=prompts, splits={"validation": prompts(0, 4)}, place_of={},
        log=RolloutLog(folder, record=False, main=True),
    )  # fmt: skip
    return OnlineRig(source, Team({"policy": trainee}, copies, method.moves()), Progress(), rate)


def _again(seed: int) -> Scorer:
    """The policy as it begins, to stay so."""
    return Scorer(tiny_llama("lm", seed, bandit.VOCABULARY), Kernel("sdpa")).eval().requires_grad_(False)

"""The recipe's section `rollout`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from align.system.ranges import AtLeastOne, Positive, Range, Share, ShareAboveZero


@dataclass(frozen=True, kw_only=True)
class AuditSection:
    """What states are believed to be worth, beside what they are worth: values/, and a chart of the report."""

    num_states: AtLeastOne = 64  # of an experience
    num_samples: Annotated[int, Range(2)] = 64  # completions that a state's value is the mean of
    every: AtLeastOne = 10  # experiences from one audit to the next


@dataclass(frozen=True, kw_only=True)
class RolloutSection:
    """What the policy writes, and how much of it is learned from before it writes again."""

    engine: Literal["local", "vllm"] = "local"  # in this process, with the weights that are trained; or a vLLM server
    num_generations: int = 8  # completions of each prompt
    num_prompts: int = 0  # prompts of an experience; 0: training.batch_size, so that it lasts one step
    num_iterations: AtLeastOne = 1  # passes over an experience
    max_completion_length: AtLeastOne = 256  # tokens of a completion
    temperature: Positive = 1.0  # of the sampler, and of every log-probability in training
    top_k: int = 0  # only so many of the likeliest tokens; 0 keeps all
    top_p: ShareAboveZero = 1.0  # the likeliest tokens that together have this probability; 1 keeps all
    min_p: Share = 0.0  # tokens at least so likely, as a share of the likeliest one; 0 keeps all
    biased_sampling: bool = False  # consent to top_k, top_p or min_p, under which the gradient is not the policy's
    stop_strings: list[str] = field(default_factory=list)  # texts that end a turn, beside the end-of-sequence tokens
    environment: str = ""  # package.module:function that answers a finished turn, or ends the completion; empty: none
    max_turns: AtLeastOne = 8  # of the policy, where there is an environment
    window: int = 0  # new tokens of a completion in one experience; the rest is written in the next ones; 0: no limit
    steps: str = "newline"  # how completions are cut into steps: newline, gsm8k, math, or package.module:function
    audit: AuditSection | None = None  # measures whether states are worth what a method believes; null: no audit
    max_rows: AtLeastOne = 64  # completions that one rank writes side by side: memory, not mathematics
    # Further ones, which begin in the rows of those that have ended. On a CPU this pays where lengths are very unequal
    # (a tenth at a median of 67 of at most 384 tokens), and costs where most are long.
    waiting_rows: int = 0
    mask_truncated: bool = False  # completions cut at max_completion_length are not learned from
    staleness: int = 0  # 1: the next experience is written by the weights before this one is learned from
    max_refills: int = 0  # how often further prompts are drawn where the method leaves groups out
    correction: Literal["none", "truncate", "mask"] = "none"  # of the gap between engine and trainer
    correction_level: Literal["token", "sequence", "geometric"] = "token"  # what has an importance weight of its own
    correction_high: float = 2.0  # largest weight pi_old / sampler
    correction_low: float = 0.0  # with `mask`: smallest
    replay: str = ""  # a run folder whose recorded rollouts are learned from, instead of writing
    record: bool = False  # keep the rollouts of every experience in rollouts/, to be replayed
    # ---- where the engine is vllm; none of these changes what is learned
    vllm_server_base_url: str | list[str] = ""  # of a server, or of each of several, that runs already and sees the
    # run folder; empty: the run starts what vllm_command says
    vllm_command: str | list[str] = "vllm serve"  # what starts one, such as `env CUDA_VISIBLE_DEVICES=1
    # other-environment/bin/vllm serve`; or a list, with a command for each of several
    vllm_arguments: list[str] = field(default_factory=list)  # further arguments of each command
    # Where the server that is started listens. Whoever reaches it may give it weights: beyond this machine only behind
    # a wall of your own (0.0.0.0: all networks).
    vllm_host: str = "127.0.0.1"
    vllm_server_timeout: Positive = 240.0  # seconds for a server to be up
    vllm_request_timeout: Positive = 600.0  # seconds for an answer
    vllm_retries: int = 3  # further tries where a connection breaks, with growing pauses

    @property
    def server_urls(self) -> list[str]:
        return listed(self.vllm_server_base_url)

    @property
    def server_commands(self) -> list[str]:
        return listed(self.vllm_command)

    def lasting(self, batch_size: int) -> int:
        """Optimiser steps on an experience: passes times minibatches."""
        return self.num_iterations * ((self.num_prompts or batch_size) // batch_size)


def listed(value: str | list[str]) -> list[str]:
    return value if isinstance(value, list) else [value] if value else []

"""vLLM servers as the engine of a run."""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from peft import PeftModel

from align.errors import UserError
from align.models.embeddings import num_rows
from align.models.load import where
from align.models.parts import unwrapped
from align.recipe.sharding import refuse_merged
from align.rollout.engine import Sampling
from align.rollout.settings import RolloutSection
from align.rollout.vllm.connect import Expected, check_vocabulary, join, shape_of
from align.rollout.vllm.engine import mode_of
from align.rollout.vllm.placed import Place, places, refuse_lists, start_in
from align.rollout.vllm.server import Starting, start
from align.rollout.vllm.servers import Servers, Station
from align.run.parts import Parts
from align.sources.served_policy import ServerEngines


def server_engines(parts: Parts, sampling: Sampling, folder: Path, say: Callable[[str], object]) -> ServerEngines:
    """Joined at once, so that what does not fit is told before training; started when the first weights are there."""
    rollout, world = parts.recipe.rollout, parts.batching.world
    model = world.unwrap(parts.trainee.module).model
    if isinstance(model, PeftModel):
        refuse_merged(world.sharding)
    with world.main_first():
        stations = stations_of(parts, folder / "server") if world.main else []
    return ServerEngines(
        trainee=parts.trainee, batching=parts.batching, tokenizer=parts.tokenizer, texts=parts.texts, sampling=sampling,
        probe=parts.splits.train[0].members[0].prompt, folder=folder / "server", max_rows=rollout.max_rows,
        servers=Servers(stations, lambda server: check_vocabulary(server, parts.tokenizer), say), say=say,
        marks=stop_marks(parts),
    )  # fmt: skip


def stations_of(parts: Parts, folder: Path) -> list[Station]:
    """Servers that run already are looked at now. UserError where one does not fit, or none can be started."""
    rollout = parts.recipe.rollout
    if free := places():
        return _placed(parts, free, folder)
    if urls := rollout.server_urls:
        servers = [join(rollout, url, expected(parts)) for url in urls]
        for server in servers:
            check_vocabulary(server, parts.tokenizer)
        return [Station(server=server) for server in servers]
    check_commands(rollout)
    _refuse_several_machines(parts.batching.world.size)
    commands, arguments = rollout.server_commands, start_arguments(parts)
    logs = [folder / ("vllm.log" if len(commands) == 1 else f"vllm-{n}.log") for n in range(1, len(commands) + 1)]

    def starter(command: str, log: Path) -> Callable[[Path], Starting]:
        return lambda weights: start(rollout, command, weights, arguments, log)

    return [Station(start=starter(command, log)) for command, log in zip(commands, logs, strict=True)]


def _placed(parts: Parts, free: Sequence[Place], folder: Path) -> list[Station]:
    rollout, arguments = parts.recipe.rollout, start_arguments(parts)
    refuse_lists(rollout)

    def starter(place: Place) -> Callable[[Path], Starting]:
        log = (folder / f"vllm-{place.number + 1}.log").resolve()  # the keeper stands elsewhere
        return lambda weights: start_in(place, rollout, weights, arguments, log)

    return [Station(start=starter(place)) for place in free]


def stop_marks(parts: Parts) -> tuple[int, ...]:
    """Stop strings that are tokens of their own: a server does not see them in its text, which has no special ones."""
    added = parts.added_texts
    return tuple(added[text] for text in parts.recipe.rollout.stop_strings if text in added)


def longest(parts: Parts) -> int:
    """Tokens of the longest prompt and its completion."""
    prompts = [int(np.max(store.prompt_lengths, initial=0)) for store in parts.stores.values()]
    return max(prompts) + parts.recipe.rollout.max_completion_length


def expected(parts: Parts) -> Expected:
    section, model = parts.recipe.model, unwrapped(parts.batching.world.unwrap(parts.trainee.module).model)
    folder = where(section, parts.init).weights
    shape = shape_of(model.config.to_dict()) | {"vocab_size": num_rows(model)}
    names = dict.fromkeys((section.model_name_or_path or folder, folder, str(Path(folder).resolve())))
    return Expected(tuple(names), shape, longest(parts), mode_of(parts.recipe.rollout.temperature))


def start_arguments(parts: Parts) -> Sequence[str]:
    """What a server of this run must be told; its precision is the one that the policy computes in."""
    recipe, scorer = parts.recipe, parts.batching.world.unwrap(parts.trainee.module)
    dtype = scorer.computes_in
    trusted = ("--trust-remote-code",) if recipe.model.trust_remote_code else ()
    return (
        "--dtype", str(dtype).removeprefix("torch."), "--max-model-len", str(longest(parts)),
        "--logprobs-mode", mode_of(recipe.rollout.temperature), "--seed", str(recipe.training.seed),
        "--disable-uvicorn-access-log", *trusted,
    )  # fmt: skip


def check_commands(rollout: RolloutSection) -> None:
    """UserError where a program that is to be a run's server is not here."""
    for command in [] if rollout.server_urls else rollout.server_commands:
        words = shlex.split(command)
        if not words or shutil.which(words[0]) is None:
            raise UserError(
                f"rollout.vllm_command: {words[0] if words else 'nothing'}: no such program; install vLLM, best in an "
                "environment of its own (vllm_command: other-environment/bin/vllm serve), or set vllm_server_base_url"
            )


def _refuse_several_machines(world_size: int) -> None:
    if int(os.environ.get("LOCAL_WORLD_SIZE", world_size)) < world_size:
        raise UserError(
            "rollout.vllm_server_base_url: missing; a server that the run starts can be reached from its own machine "
            "alone, and this run has several: start one and name its URL, or give the job places for servers (align "
            "launch slurm --vllm-nodes 1)"
        )

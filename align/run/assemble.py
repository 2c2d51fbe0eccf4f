"""The pieces of a run, put together: data, tokenizer, policy, roles, layout, loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from align.batches import Group, Tokens
from align.data.prepare import Splits, default_cache, prepare, reopen
from align.data.text.template import give_template
from align.methods.base import OnlineMethod
from align.models import quantised
from align.models.fresh import make_fresh
from align.models.frozen import reference_weights
from align.models.hollow import is_hollow
from align.models.load import load_policy, where
from align.models.outline import config_of
from align.models.parts import context_in
from align.models.save import fingerprint
from align.models.targets import notes_of, refuse_sharded_experts
from align.models.tokenizer import load_tokenizer
from align.monitors.display import Display
from align.monitors.watch import Watch
from align.needs import LEARNS
from align.recipe.load import Recipe
from align.recipe.look_at_data import num_read
from align.recipe.sharding import refuse_sharding
from align.recipe.steps import steps_of_experience
from align.run.checks import look_before, with_direction
from align.run.copies import let_jump, make_copies
from align.run.critic import make_critic, warmup_of
from align.run.identity import FORMAT, digest, inputs_of
from align.run.offline import offline_source
from align.run.online import online_source
from align.run.parts import Parts, data_of, device_of, head_of
from align.run.twin import clipped, make_sources, make_twin, rates_of
from align.runfolder.environment import arithmetic
from align.runfolder.folder import RunFolder
from align.runfolder.logs import CompletionsLog, MetricsLog
from align.runfolder.state_files import seed_generators
from align.scoring.experience import Batching
from align.scoring.routing import settle_router
from align.scoring.score import Scorer
from align.system.files import remove
from align.system.sums import digest_of
from align.training.build import SAMPLE, DataSample, choose_layout, kernel_of, limits_of, make_trainee
from align.training.loop import Training
from align.training.portion import ExperienceSource
from align.training.snapshot import Progress
from align.training.step import Trainee
from align.training.team import Team
from align.world.distributed import World
from align.world.stages import doing

READ_WHOLE = (
    "the model is read whole by every process before it is divided: its files do not hold each parameter by name, as "
    "those of experts, or what is put on it is made of its weights (new tokens, DoRA)"
)
EVERY_ROWS = 5.0  # seconds between plain lines while rows are prepared


@dataclass(frozen=True)
class Setup:
    """What a run is made of before its first step."""

    recipe: Recipe
    world: World
    folder: RunFolder
    tokenizer: Any
    splits: Splits
    team: Team
    batching: Batching
    source: ExperienceSource  # where experience comes from
    weights: str  # fingerprint of what training starts from
    identity: dict[str, Any]  # all that its numbers depend on

    @property
    def trainee(self) -> Trainee:
        return self.team.policy

    @property
    def policy(self) -> Scorer:
        return self.world.unwrap(self.trainee.module)

    @property
    def model(self) -> Any:
        return self.policy.model


def assemble(recipe: Recipe, world: World, folder: RunFolder, say: Callable[[str], Any]) -> Setup:
    """Loads data and models, prepares them for this world, and chooses the layout."""
    refuse_sharding(recipe, world.sharding)
    needs = recipe.method.needs()
    tokenizer = load_tokenizer(recipe.model, head := head_of(recipe))
    splits = load_data(recipe, tokenizer, world)
    give_template(tokenizer, splits.chat_template)
    world.must_agree("the prepared data", [s.fingerprint for s in splits.stores.values()])
    context = context_in(config_of(recipe.model, tokenizer, head))
    for note in (*splits.remade, *splits.notes, *look_before(recipe, splits, tokenizer, context)):
        say(note)
    init = folder.path / "init"
    if recipe.model.config:
        with world.main_first():
            if world.main:
                if not folder.recipe.exists():  # left by a run that failed before it began, perhaps of another config
                    remove(init)
                make_fresh(recipe.model, tokenizer, recipe.training.seed, init)
    policy = load_for(recipe, world, tokenizer, init, say)
    places = where(recipe.model, init)
    weights = world.once_per_machine(lambda: fingerprint(places.adapter or places.weights))
    others = world.once_per_machine(lambda: reference_weights(recipe.model))
    world.must_agree("the model's weights", weights)
    world.must_agree("the references' weights", others)
    kernel = kernel_of(policy, recipe.training, world.device)
    limits = limits_of(policy, recipe.training, world)
    valued = any("values" in needs.live(m) for m in needs.members)
    on_trunk = valued and recipe.model.critic is None
    trainee = make_trainee(policy, kernel, clipped(recipe), recipe.training, world, value_head=on_trunk)
    trainee = settle_router(trainee, recipe.model)
    team, of_critic = make_team(recipe, trainee, tokenizer, init, splits)
    sample = [splits.train[i] for i in range(min(SAMPLE, len(splits.train)))]
    picked = DataSample(learned_sequences(recipe, sample), *lengths(recipe, splits, context))
    choice = choose_layout(list(team.learners.values()), needs, picked, recipe.training, limits, say)
    saved = choice.tokens["padded"] - choice.tokens[choice.layout]
    cost = choice.tokens[choice.layout]
    say(f"layout {choice.layout}: {cost} tokens for the first {len(sample)} rows, {saved} saved")
    batching = Batching(needs, choice.layout, limits, world, recipe.rollout.temperature)
    weights += of_critic + others
    identity = _identity(recipe, trainee, init, splits, weights)
    parts = Parts(recipe, batching, team, tokenizer, init, splits, digest(identity))
    online = isinstance(recipe.method, OnlineMethod)
    source = online_source(parts, folder, say) if online else offline_source(parts, say)
    seed_generators(recipe.training.seed + world.rank)  # dropout is drawn for each rank's own rows
    return Setup(recipe, world, folder, tokenizer, splits, team, batching, source, weights, identity)


def load_for(recipe: Recipe, world: World, tokenizer: Any, init: Path, say: Callable[[str], Any]) -> Any:
    """The policy; where weights are divided they are read when it is."""
    seed_generators(recipe.training.seed)  # a new adapter is drawn alike on every rank
    device = device_of(world)
    policy = load_policy(recipe.model, tokenizer, head_of(recipe), init, device)
    refuse_sharded_experts(policy, world.sharding)
    let_jump(recipe.method, policy)
    for note in (*notes_of(policy, recipe.model.lora), *quantised.told(policy)):
        say(note)
    if device == "hollow" and not is_hollow(policy):
        say(READ_WHOLE)
    return policy


def make_team(
    recipe: Recipe, policy: Trainee, tokenizer: Any, init: Path, splits: Splits
) -> tuple[Team, str]:  # fmt: skip
    """Who learns and who follows beside the policy, and the fingerprint of its critic."""
    critic, weights = make_critic(recipe, policy.world, tokenizer, init)
    learners = {LEARNS: policy, **critic, **make_twin(recipe, policy, tokenizer, init)}
    copies = make_copies(recipe, policy, tokenizer, init)
    moves, lasting = recipe.method.moves(), steps_of_experience(recipe)
    return Team(learners, copies, moves, lasting, make_sources(recipe, splits)), weights


def _identity(recipe: Recipe, trainee: Trainee, init: Path, splits: Splits, weights: str) -> dict[str, Any]:
    world = trainee.world
    inputs = world.once_per_machine(lambda: inputs_of(recipe, init, len(splits.train)))
    world.must_agree("what the run reads", {name: digest_of(sums)[:12] for name, sums in inputs.items()})
    precision = world.unwrap(trainee.module).kernel.autocast
    return {
        "format": FORMAT,
        "recipe": recipe.to_dict(),
        "data": splits.train.fingerprint,
        "weights": weights,
        "inputs": inputs,
        "arithmetic": arithmetic(precision),
        "world_size": world.size,
        "sharding": world.sharding,
    }


def learned_sequences(recipe: Recipe, sample: Sequence[Group]) -> list[list[Tokens]]:
    """What a row of the loss will look like; of completions that are still to be written, a guess at their lengths."""
    needs = recipe.method.needs()
    if isinstance(recipe.method, OnlineMethod):
        r = recipe.rollout
        half = np.zeros(max(1, r.max_completion_length // 2), dtype=np.int32)
        return [[Tokens(g.members[0].prompt, half, half == 0)] * r.num_generations for g in sample]
    picks = [list(needs.members).index(m) for m in needs.learned()]
    return [[g.members[i] for i in picks] for g in needs.batch.arrange(sample)]


def lengths(recipe: Recipe, splits: Splits, context: int) -> tuple[int, int]:
    """Tokens of the shortest and of the longest sequence that the run may score, in a model of this context."""
    stores = [store for store in splits.stores.values() if len(store)]
    prompts = np.concatenate([store.prompt_lengths for store in stores])
    if isinstance(recipe.method, OnlineMethod):
        said = np.array([1, recipe.rollout.max_completion_length])
    else:
        said = np.concatenate([store.completion_lengths for store in stores])
        if said.shape[1] == len(recipe.method.needs().members):
            whole = prompts[:, None] + said
            return int(whole.min()), int(whole.max())
    # Any prompt may meet any completion.
    return int(prompts.min() + said.min()), min(int(prompts.max() + said.max()), context)


@doing("preparing data")
def load_data(recipe: Recipe, tokenizer: Any, world: World) -> Splits:
    """Prepared by the main process, verified by one of each machine, read by all."""
    found: list[Splits] = []

    def prepared() -> str:
        if not found:
            found.append(prepare_data(recipe, tokenizer, main=world.main))
        return found[0].fingerprint

    with world.main_first():
        if world.main:
            prepared()
    key = world.once_per_machine(prepared)
    return found[0] if found else reopen(data_of(recipe), default_cache(), key)


def prepare_data(recipe: Recipe, tokenizer: Any, *, main: bool = True) -> Splits:
    """From the cache, or into it; the main process shows how far it is."""
    needs = recipe.method.needs()
    with ExitStack() as opened:
        tick = _ticker(recipe, opened, main=main)
        return prepare(data_of(recipe), needs.batch.kind, needs.numbers(), tokenizer, default_cache(), tick)


def _ticker(recipe: Recipe, opened: ExitStack, *, main: bool) -> Callable[[int], None]:
    """Shows how far the data are prepared, once that begins; what is in the cache is silent."""
    advance: list[Callable[[int], None]] = []
    before = 0

    def tick(rows: int) -> None:
        nonlocal before
        if not advance:
            display = opened.enter_context(Display(0, main=main))
            told = display.during("preparing the data", num_read(recipe.data), EVERY_ROWS)
            advance.append(opened.enter_context(told))
        advance[0](rows - before)
        before = rows

    return tick


Logs = tuple[MetricsLog | None, CompletionsLog | None]  # of the main process


@dataclass(frozen=True)
class Begun:
    """Where a run stands before its next step."""

    progress: Progress
    logs: Logs
    identity: dict[str, Any]  # what its checkpoints say that they are of


def make_run(
    setup: Setup, num_steps: int, begun: Begun, trackers: Sequence[Any], display: Display, watch: Watch | None
) -> Training:  # fmt: skip
    recipe, (log, written) = setup.recipe, begun.logs
    round_steps = steps_of_experience(recipe) if recipe.method.rounds else 0
    return Training(
        team=setup.team, batching=setup.batching, source=setup.source,
        rates=rates_of(recipe, num_steps), warmup=warmup_of(recipe), num_steps=num_steps, round_steps=round_steps,
        settings=with_direction(recipe, setup.splits).in_steps(num_steps),
        root=setup.folder.checkpoints, log=log, written=written,
        trackers=trackers, display=display, identity=begun.identity, watch=watch,
    )  # fmt: skip

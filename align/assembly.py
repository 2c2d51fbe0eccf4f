"""The pieces of a run, put together: data, tokenizer, policy, roles, layout, loop."""

from __future__ import annotations

import hashlib
import shutil
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from align.batches import Group, empty_batch
from align.data.mixture import steps_of
from align.data.prepare import Splits, default_cache, prepare
from align.data.store import Store
from align.errors import UserError, did_you_mean
from align.methods.base import Loss
from align.models.adapters import reference_kind
from align.models.fresh import make_fresh
from align.models.frozen import frozen_copy
from align.models.load import load_policy, where
from align.models.save import fingerprint
from align.models.tokenizer import load_tokenizer
from align.recipe import Recipe
from align.training.build import SAMPLE, autocast_of, choose_layout, frozen, kernel_of, limits_of, make_trainee
from align.training.distributed import World
from align.training.experience import ModelRole, Reader, Role
from align.training.metrics import MetricsLog
from align.training.offline import Offline
from align.training.optim import learning_rate
from align.training.progress import Progress as Display
from align.training.roles import AdapterOff, cached
from align.training.runfolder import RunFolder
from align.training.step import Trainee


@dataclass(frozen=True)
class Setup:
    """What a run is made of before its first step."""

    recipe: Recipe
    world: World
    folder: RunFolder
    tokenizer: Any
    splits: Splits
    trainee: Trainee
    reader: Reader
    roles: Mapping[str, Mapping[str, Role]]  # split -> role -> who makes its columns
    weights: str  # fingerprint of what training starts from

    @property
    def model(self) -> Any:
        return self.world.unwrap(self.trainee.module).model

    def portions(self, store: Store) -> list[list[Group]]:
        """The rows of a split in portions of the size of a training step."""
        count, size = len(store), self.recipe.training.batch_size
        if self.recipe.training.max_eval_rows:
            count = min(count, self.recipe.training.max_eval_rows)
        return [[store[i] for i in range(a, min(a + size, count))] for a in range(0, count, size)]


def assemble(recipe: Recipe, world: World, folder: RunFolder, say: Callable[[str], Any]) -> Setup:
    """Loads data and models, prepares them for this world, and chooses the layout."""
    needs = recipe.method.needs()
    head = "lm" if any("logps" in needs.live(m) for m in needs.learned()) else "scalar"
    tokenizer = load_tokenizer(recipe.model, head)
    splits = load_data(recipe, tokenizer, world)
    for note in splits.notes:
        say(note)
    tokenizer.chat_template = splits.chat_template or tokenizer.chat_template
    world.must_agree("the prepared data", [s.fingerprint for s in (splits.train, splits.validation, splits.test)])
    init = folder.path / "init"
    if recipe.model.config:
        with world.main_first():
            if world.main:
                if not folder.recipe.exists():  # left by a run that failed before it began, perhaps of another config
                    shutil.rmtree(init, ignore_errors=True)
                make_fresh(recipe.model, tokenizer, recipe.training.seed, init)
    torch.manual_seed(recipe.training.seed)  # a new adapter is drawn alike on every rank
    policy = load_policy(recipe.model, tokenizer, head, init)
    places = where(recipe.model, init)
    world.must_agree("the model's weights", weights := fingerprint(places.adapter or places.weights))
    kernel = kernel_of(policy.to(world.device), recipe.training, world.device)
    limits = limits_of(policy, recipe.training, world)
    trainee = make_trainee(policy, kernel, recipe.optim, recipe.training, world)
    sample = needs.batch.arrange([splits.train[i] for i in range(min(SAMPLE, len(splits.train)))])
    choice = choose_layout(trainee, needs, sample, recipe.training, limits, say)
    saved = choice.tokens["padded"] - choice.tokens[choice.layout]
    cost = choice.tokens[choice.layout]
    say(f"layout {choice.layout}: {cost} tokens for the first {len(sample)} rows, {saved} saved")
    reader = Reader(needs, choice.layout, limits, world)
    check_metric(recipe, sample)
    roles = make_roles(recipe, reader, trainee, (tokenizer, init), splits)
    torch.manual_seed(recipe.training.seed + world.rank)  # dropout is drawn for each rank's own rows
    return Setup(recipe, world, folder, tokenizer, splits, trainee, reader, roles, weights)


def check_metric(recipe: Recipe, sample: Sequence[Group]) -> None:
    """UserError where the metric that decides keep-best and early stopping is none that the method reports."""
    needs, name = recipe.method.needs(), recipe.training.metric_for_best_model
    widths = [max(len(g.members[i].completion) for g in sample) for i in range(len(needs.members))]
    members = zip(needs.members, widths, strict=True)
    zeros = {(m, c): torch.zeros(len(sample), width) for m, width in members for c in needs.stored(m)}
    known = dict.fromkeys(["loss", *_tried(recipe, empty_batch(needs, sample, zeros)).terms])
    if name not in known:
        there = f"{recipe.method_name} reports {', '.join(known)}"
        raise UserError(f"training.metric_for_best_model: no such metric: {name}; {there}.{did_you_mean(name, known)}")


def _tried(recipe: Recipe, batch: Any) -> Loss:
    """The loss of a method, which may be a user's own, on its first rows."""
    name = recipe.method_name
    try:
        method: Any = recipe.method
        found: object = method.loss(method.prepare(batch))
    except Exception as error:
        if ":" not in name:
            raise
        last = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{last.filename}, line {last.lineno}"
        raise UserError(f"method {name}: {type(error).__name__} on the first rows: {error} ({where})") from error
    if not isinstance(found, Loss):
        raise UserError(f"method {name}: loss returned {type(found).__name__}, not align.methods.base.Loss")
    return found


def load_data(recipe: Recipe, tokenizer: Any, world: World) -> Splits:
    """Prepared by the main process, read by all."""
    needs = recipe.method.needs()
    numbers = tuple(column for column, _ in needs.rows.values())
    found: list[Splits] = []
    with world.main_first():
        found.append(prepare(recipe.data, needs.batch.kind, numbers, tokenizer, default_cache()))
    return found[0]


def make_roles(
    recipe: Recipe, reader: Reader, trainee: Trainee, source: tuple[Any, Path], splits: Splits
) -> dict[str, dict[str, Role]]:
    """Who makes each stored column, for each split. A role that the method does not need is not loaded."""
    tokenizer, init = source
    wanted = reader.needs.roles()
    shared: dict[str, Role] = {"old": ModelRole(trainee.module)} if "old" in wanted else {}
    splits_of = {"train": splits.train, "validation": splits.validation, "test": splits.test}
    if "ref" not in wanted:
        return dict.fromkeys(splits_of, shared)
    kind = reference_kind(recipe.model)
    if kind == "adapter_off":
        return dict.fromkeys(splits_of, shared | {"ref": ModelRole(AdapterOff(trainee.module))})
    model = frozen_copy(recipe.model, tokenizer, "lm", init)
    device = reader.world.device
    scorer = frozen(model, kernel_of(model.to(device), recipe.training, device), reader.world)
    if kind == "copy":
        return dict.fromkeys(splits_of, shared | {"ref": ModelRole(scorer)})
    if any(len(store[0].members) < len(reader.needs.members) for store in splits_of.values() if len(store)):
        raise UserError(
            f"model.reference: cached, but {recipe.method_name} scores answers to other rows' prompts, "
            "which no cache can hold; use copy"
        )
    computed = [reader.layout, str(autocast_of(recipe.training, device)), kernel_name(reader.world.unwrap(scorer))]
    made: dict[str, dict[str, Role]] = {}
    for name, store in splits_of.items():
        path = default_cache() / "logps" / f"ref-{_digest([store.fingerprint, fingerprint(model), *computed])}.f32"
        made[name] = shared | {"ref": cached(path, scorer, reader, store, recipe.training.batch_size)}
    return made


def kernel_name(scorer: Any) -> str:
    return f"{scorer.kernel.attention}-{next(scorer.parameters()).dtype}"


def _digest(parts: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:24]


def count_steps(recipe: Recipe, num_rows: int) -> int:
    training = recipe.training
    return training.max_steps or steps_of(total_rows(recipe, num_rows), training.batch_size)


def total_rows(recipe: Recipe, num_rows: int) -> int:
    training = recipe.training
    if training.max_steps:
        return training.max_steps * training.batch_size
    return round(num_rows * training.num_train_epochs)


def offline_loop(
    setup: Setup, num_steps: int, log: MetricsLog | None, trackers: Sequence[Any], display: Display
) -> Offline:
    recipe, store = setup.recipe, setup.splits.train
    mixture = setup.splits.mixture(recipe.training.seed)
    total = total_rows(recipe, len(store))

    def rows_of_step(step: int) -> list[Group]:
        return [store[int(i)] for i in mixture.rows_of_step(step, recipe.training.batch_size, total)]

    return Offline(
        trainee=setup.trainee, method=recipe.method, reader=setup.reader, roles=setup.roles["train"],
        validation_roles=setup.roles["validation"], rows_of_step=rows_of_step,
        place_of={"train": store.place, "validation": setup.splits.validation.place},
        validation=setup.portions(setup.splits.validation), rate_of_step=learning_rate(recipe.optim, num_steps),
        num_steps=num_steps, settings=recipe.training, root=setup.folder.checkpoints, log=log, trackers=trackers,
        display=display,
    )  # fmt: skip

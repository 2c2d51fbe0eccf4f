"""What a method's moves need beside the policy: copies that follow it, by their roles; an adapter that can jump."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from peft import PeftModel

from align.errors import UserError
from align.models import ahead
from align.models.adapters import beside
from align.models.load import load_policy
from align.needs import beside_jumps, copies_of, jumps
from align.recipe.load import Recipe
from align.run.parts import device_of, head_of
from align.runfolder.state_files import seed_generators
from align.training.build import frozen, kernel_of
from align.training.moves import copy
from align.training.step import Trainee


def refuse_jump(method: Any, policy: Any) -> None:
    """UserError where the moves extrapolate an adapter, and its product cannot be; where an adapter would be pulled."""
    if not isinstance(policy, PeftModel):
        return
    if method.pulls():
        raise UserError(f"{method.name} pulls weights towards a copy, and an adapter's are a product; {ahead.CURE}")
    if jumps(method):
        if others := beside_jumps(method):
            raise UserError(f"{method.name} extrapolates, and has other moves ({others}), of an adapter: {ahead.CURE}")
        ahead.refuse(policy)


def let_jump(method: Any, policy: Any) -> None:
    """Prepares an adapter for the jumps of the method, where it has any. UserError as `refuse_jump`."""
    refuse_jump(method, policy)
    if jumps(method) and isinstance(policy, PeftModel):
        ahead.prepare(policy)


def make_copies(recipe: Recipe, trainee: Trainee, tokenizer: Any, init: Path) -> dict[str, Any]:
    """Role -> the policy once more, as it is before the first step."""
    made: dict[str, Any] = {}
    world = trainee.world
    for role in copies_of(recipe.method):
        model = another(recipe, trainee, tokenizer, init)
        made[role] = frozen(model, kernel_of(model, recipe.training, world.device), world)
        copy(made[role], trainee.module, world)
    return made


def another(recipe: Recipe, trainee: Trainee, tokenizer: Any, init: Path) -> Any:
    """The model of the policy once more: of an adapter on the same base, but where the base is in shards, which answer
    to one module alone."""
    world, policy = trainee.world, trainee.world.unwrap(trainee.module).model
    if isinstance(policy, PeftModel) and not world.divides:
        return beside(policy, {name.removeprefix("model.") for name in trainee.changing})
    seed_generators(recipe.training.seed)  # a new adapter has its own names and shapes, and is drawn alike
    return load_policy(recipe.model, tokenizer, head_of(recipe), init, device_of(world))

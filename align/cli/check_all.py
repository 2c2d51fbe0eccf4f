"""`align check --all`: what a run does before it has weights, done now: the data prepared, the models made empty.

The data stay in the cache, where the run finds them; what is on the hub and not here is fetched, as the run would.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from align.data.prepare import Splits
from align.data.text.template import give_template
from align.errors import Findings, UserError
from align.methods.base import OnlineMethod
from align.models.adapters import reference_kind
from align.models.frozen import frozen_copy, references
from align.models.outline import config_of, outline
from align.models.parts import context_in
from align.models.settings import ModelSection, SoupSection
from align.models.targets import notes_of, refuse_sharded_experts
from align.models.tokenizer import load_tokenizer
from align.monitors.trackers import no_telemetry
from align.recipe.load import Recipe
from align.run.assemble import prepare_data
from align.run.checks import look_before
from align.run.copies import refuse_jump
from align.run.critic import check_critic, critic_section, optim_of
from align.run.identity import check_inputs
from align.run.parts import head_of
from align.run.server import check_commands
from align.runfolder.folder import RunFolder
from align.scoring.role_table import REFERENCE, loaded, section_of
from align.scoring.routing import refuse_routerless
from align.training.build import refuse_checkpointing
from align.training.optim import check_arguments


def look_at_all(recipe: Recipe, mistakes: Sequence[str], sharding: str = "") -> tuple[list[str], list[str]]:
    """Lines about the data, and notes. Raises Mistakes with these and all that a run would be refused for."""
    no_telemetry()
    found, lines, notes = Findings(mistakes), list[str](), _strange(recipe)
    tokenizer: Any = None
    with found:
        tokenizer = load_tokenizer(recipe.model, head_of(recipe))
    if tokenizer is not None:  # else nothing more can be looked at
        with found:
            splits = prepare_data(recipe, tokenizer)
            lines += _kept(splits)
            notes += [*splits.remade, *splits.notes]
            give_template(tokenizer, splits.chat_template)
            context = context_in(config_of(recipe.model, tokenizer, head_of(recipe)))
            notes += look_before(recipe, splits, tokenizer, context)
        notes += _models(recipe, tokenizer, found, sharding)
    with found:
        check_inputs(recipe)
    with found:
        if isinstance(recipe.method, OnlineMethod) and recipe.rollout.engine == "vllm":
            check_commands(recipe.rollout)
    found.tell()
    return lines, notes


def _strange(recipe: Recipe) -> list[str]:
    """What `train` refuses of the run folder unless its user trusts it, which is said on that command alone."""
    folder = RunFolder(recipe.output_dir)
    try:
        if folder.path.is_dir():
            folder.refuse_strange()
    except UserError as error:
        return [str(error)]
    return []


def _kept(splits: Splits) -> list[str]:
    told = []
    for name, store in splits.stores.items():
        if len(store):
            prompt, said = int(store.prompt_lengths.max()), int(store.completion_lengths.max())
            more = f" and {said} of an answer" if said else ""
            read = f"all {store.counts.read:,} rows were looked at, {len(store):,} are kept"
            told.append(f"{name}: {read}; up to {prompt} tokens of a prompt{more}")
    return told


def _models(recipe: Recipe, tokenizer: Any, found: Findings, sharding: str) -> list[str]:
    """Makes every model without its weights; returns what is to be said of them."""
    section, notes = recipe.model, list[str]()
    with found:
        policy = outline(section, tokenizer, head_of(recipe))
        notes += notes_of(policy, section.lora)
        refuse_checkpointing(policy, recipe.training)
        refuse_sharded_experts(policy, sharding)
        refuse_routerless(policy, section)
        check_arguments(policy, recipe.optim)
        refuse_jump(recipe.method, policy)
    with found:
        references(section)
    for role in loaded(recipe.method, section):
        with found:
            _frozen(section, role, tokenizer)
    with found:
        if critic := section.critic:
            own = critic_section(section, critic)
            check_critic(own, critic, tokenizer)
            model = outline(own, tokenizer, "scalar")
            refuse_checkpointing(model, recipe.training)
            check_arguments(model, optim_of(recipe, critic))
    return notes


def _frozen(section: ModelSection, role: str, tokenizer: Any) -> None:
    """Makes a role's model, unless it is the policy's own. UserError."""
    named = section.ref_model_name_or_path or isinstance(section.reference, SoupSection)
    if role == REFERENCE and (not named or reference_kind(section) == "adapter_off"):
        return
    of_role, key = section_of(section, role)
    frozen_copy(of_role, tokenizer, "lm", Path(), "meta", key)

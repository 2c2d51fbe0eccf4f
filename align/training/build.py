"""From a loaded model to something that is trained, frozen or cached: the pieces that `run` puts together."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from align.batches import Tokens
from align.errors import AlignError, UserError
from align.models.parts import HEAD_GAP, num_block_params, unwrapped
from align.needs import Needs
from align.scoring.attention import BLOCK, FLEX, leaves_out_blocks
from align.scoring.choose_layout import Cost, cheapest, choose, measured
from align.scoring.layout import RowLayout, lay_out, shapes
from align.scoring.plan import GroupShape, Limits
from align.scoring.probe import LAYOUTS, Probe, probe
from align.scoring.score import Kernel, Scorer
from align.training.optim import make_optimizer
from align.training.settings import CPU_MICRO_BATCH, HEAD_BYTES, LEAST_CHUNK, MICRO_BATCH, OptimSection, TrainingSection
from align.training.slopes import masters_of, stepped
from align.training.step import Trainee
from align.world.distributed import World, precision_of
from align.world.shards import answering, divided, prepared

NUM_KERNELS = 64  # compiled flex attention kernels that may stand side by side
SAMPLE = 64  # groups that the cost of a layout is estimated on


def kernel_of(model: Any, settings: TrainingSection, device: torch.device) -> Kernel:
    """How this model computes: its attention, and the autocast of the recipe."""
    attention = str(getattr(unwrapped(model).config, "_attn_implementation", "eager"))
    if attention == FLEX:
        # Layouts, gradients and precisions each compile a kernel; beyond the limit torch would silently use none.
        torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, NUM_KERNELS)
    return Kernel(attention, autocast_of(settings, device))


@contextmanager
def attention_works(kernel: Kernel) -> Iterator[None]:
    """Flex attention is compiled at its first call, which fails where a compiler is missing or a chip is too small."""
    try:
        yield
    except AlignError:
        raise
    except Exception as error:
        if kernel.attention != FLEX:
            raise
        reason = str(error).strip().splitlines()[:1]
        raise UserError(
            f"flex attention does not run here ({type(error).__name__}: {''.join(reason)[:200]}); "
            "set model.attn_implementation: sdpa"
        ) from error


def autocast_of(settings: TrainingSection, device: torch.device) -> torch.dtype | None:
    return torch.bfloat16 if precision_of(settings.mixed_precision, device) == "bf16" else None


def limits_of(model: Any, settings: TrainingSection, world: World) -> Limits:
    config = unwrapped(model).config
    chunk = settings.head_chunk or max(LEAST_CHUNK, HEAD_BYTES // (4 * config.get_text_config().vocab_size))
    max_tokens = settings.max_tokens or (CPU_MICRO_BATCH if world.device.type == "cpu" else MICRO_BATCH)
    row_tokens = max_tokens if config._attn_implementation == FLEX else 0
    return Limits(max_tokens, chunk, world.size, row_tokens)


def make_trainee(
    model: Any,
    kernel: Kernel,
    optim: OptimSection,
    settings: TrainingSection,
    world: World,
    *,
    value_head: bool = False,
) -> Trainee:
    """Wraps, divides, prepares."""
    refuse_checkpointing(model, settings)
    if settings.gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        if hasattr(model, "enable_input_require_grads"):
            model.enable_input_require_grads()
    scorer = Scorer(model, kernel, value_head=value_head)
    scorer.train()
    changing = frozenset(name for name, p in scorer.named_parameters() if p.requires_grad)
    scorer = divided(scorer, world)
    masters = masters_of(scorer) if optim.masters and not world.deepspeed else None
    module, optimizer = prepared(scorer, make_optimizer(stepped(scorer, masters), optim), world)
    settle_head(module, scorer, world)
    return Trainee(module, optimizer, world, optim.max_grad_norm, changing=changing, masters=masters)


def refuse_checkpointing(model: Any, settings: TrainingSection) -> None:
    """UserError where gradients are to be made from checkpoints, and transformers cannot for this model."""
    inner = unwrapped(model)
    if settings.gradient_checkpointing and not inner.supports_gradient_checkpointing:
        raise UserError(
            f"training.gradient_checkpointing: transformers has none for {type(inner).__name__}; remove the key"
        )


def frozen(model: Any, kernel: Kernel, world: World) -> Any:
    """A model that only answers: in shards where weights are divided, whole on every rank otherwise."""
    scorer = Scorer(model, kernel).eval()
    for parameter in scorer.parameters():
        parameter.requires_grad_(False)
    module = answering(divided(scorer, world), world)
    settle_head(module, scorer, world)
    return module


def settle_head(module: Any, scorer: Scorer, world: World) -> None:
    """Measures whether the head alone gives the model's logits. Through `module`: shards know no other way."""
    inner = unwrapped(scorer.model)
    if inner.config.num_labels == 1 and inner.get_output_embeddings() is None:
        return
    was_training = module.training
    with torch.no_grad():
        rows = lay_out(probe(inner.config.get_text_config().vocab_size), "padded").to(world.device)
        module.eval()  # DeepSpeed's returns nothing
        with attention_works(scorer.kernel):
            gap = module(rows, ("head_gap",), 1)["head_gap"].item()
    module.train(was_training)
    scorer.kernel = dataclasses.replace(scorer.kernel, own_head=gap < HEAD_GAP)


def _beside_in(other: Trainee, asked: Probe) -> dict[RowLayout, str]:
    """What one that makes columns beside the policy gets wrong in each layout."""
    scorer = other.world.unwrap(other.module)
    with attention_works(scorer.kernel):
        return measured(other.module, scorer, dataclasses.replace(asked, column=other.only[0]))


@dataclass(frozen=True)
class DataSample:
    """Some of the data, and what is to be known of the rest."""

    groups: Sequence[Sequence[Tokens]]  # sequences of a group may share a prompt
    shortest: int = sys.maxsize  # tokens of any sequence that is not in the sample
    longest: int = 0

    @property
    def lengths(self) -> tuple[int, int]:
        """Of the shortest and of the longest sequence, in tokens."""
        here = [len(member) for members in self.groups for member in members]
        return min([self.shortest, *here]), max([self.longest, *here])


@dataclass(frozen=True)
class LayoutChoice:
    """What the run will say about its layout."""

    layout: RowLayout
    tokens: dict[str, int]  # layout -> tokens that a sample of the data costs in it, prompts and completions


def choose_layout(
    learners: Sequence[Trainee],
    needs: Needs,
    sample: DataSample,
    settings: TrainingSection,
    limits: Limits,
    say: Callable[[str], Any],
) -> LayoutChoice:
    """Measures which layouts the models get right and takes the cheapest for data like the sample. The policy is the
    first of the learners; those that make the same columns are copies of it."""
    trainee, beside = learners[0], [other for other in learners if other.only]
    module, world = trainee.module, trainee.world
    scorer = world.unwrap(module)
    model = scorer.model
    config = unwrapped(model).config.get_text_config()
    column = "logps" if any("logps" in needs.live(m) for m in needs.learned()) else "scores"
    layouts = ("padded",) if settings.layout == "padded" else LAYOUTS
    asked = Probe(config.vocab_size, column, scorer.computes_in, world.device, layouts, *sample.lengths)
    with attention_works(scorer.kernel):
        right = measured(module, scorer, asked)
    for other in beside:  # where they differ, what is right for all
        of_other = _beside_in(other, asked)
        right.update((name, finding or of_other[name]) for name, finding in right.items())
    if right["padded"]:
        raise UserError(f"the model does not score padded rows as it scores a sequence alone: {right['padded']}")
    lengths: dict[RowLayout, list[GroupShape]] = {n: shapes(sample.groups, n) for n in right}
    sparse = leaves_out_blocks(unwrapped(model).config._attn_implementation, world.device)
    area = 2.0 * config.hidden_size * config.num_hidden_layers
    cost = Cost(float(num_block_params(model)), area, BLOCK if sparse else 0)
    one = dataclasses.replace(limits, world_size=1)
    mine = choose(settings.layout, right, lambda allowed: cheapest(lengths, one, cost, allowed), say)
    layout = world.everyone(mine)[0]  # what is measured may differ between ranks; the plan may not
    tokens = {n: sum(t + sum(b) for g in of for t, b in g) for n, of in lengths.items()}
    return LayoutChoice(layout, tokens)

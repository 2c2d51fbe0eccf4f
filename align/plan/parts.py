"""The memory of a rank by part, in bytes: one small function for each, with its formula.

T tokens go through a model at once, of width h, with L layers; a is the width of all heads of attention, g that of the
keys of a token, i that of the MLP, V the vocabulary; w the bytes of a weight, c those of what is multiplied (w, or 2
under autocast). Activations are those of a decoder like Llama; where another keeps more, the estimate is too low.
"""

from __future__ import annotations

from math import ceil

from align.plan.shapes import Shape
from align.plan.work import SINGLE, Model, Work, Written

BLOCK = 128  # tokens of a row from which on attention on a CPU goes block by block
ROOM = 64  # tokens that a cache has room for beyond what is written


def weights(model: Model) -> float:
    """w for each weight; of an adapter 4 for each."""
    apart = shape_apart(model) if model.held else 0
    held = (model.weights - apart) * model.held + apart * model.width if model.held else model.weights * model.width
    return held + model.adapter * SINGLE


def shape_apart(model: Model) -> int:
    """The embeddings and the head, which stay as they are where the others have 4 bits."""
    return model.shape.vocabulary * model.shape.hidden * (1 if model.shape.tied else 2)


def gradients(model: Model) -> float:
    """w for each weight that learns."""
    return model.learned * model.learned_width


def moments(model: Model, width: int) -> float:
    """`width` for each number that the optimiser remembers: AdamW two for each weight that learns."""
    return model.learned * model.moments * width


def multiplied(model: Model, work: Work) -> float:
    """Under autocast 2 for each weight: what a pass has multiplied is kept for the way back, whole on every rank. With
    gradient checkpointing those of one layer and of the head, and the others are made again."""
    if not work.autocast:
        return 0.0
    shape = model.shape
    few = work.checkpointed or model.held  # those of 4 bits are made again on the way back
    return work.precision * (shape.of_layer() + shape.vocabulary * shape.hidden if few else shape.used())


def lowered(model: Model, work: Work) -> float:
    """2 for each weight under autocast, while the model writes: they are multiplied for every token. Those that do not
    learn are lowered anew each time."""
    return model.shape.used() * work.precision if work.autocast and not model.adapter else 0.0


def layer(work: Work, model: Model) -> float:
    """What one layer keeps of T tokens for the backward pass.

    T ( 2 (4 + w) h            two norms: what comes in, in float32, and what leaves before the gain
      + n c h                  what the matrices read: n = 2, under autocast a copy for each of 5
      + c (2 a + 2 k)          queries, keys, values, and what attention makes; a CPU repeats keys of long rows: k = a
      + c 4 i )                gate, silu of it, up, their product; of each expert that a token goes through
    """
    shape, c = model.shape, work.precision
    norms = 2 * (SINGLE + (0 if model.adapter else model.width)) * shape.hidden
    read = (5 if work.autocast else 2) * c * shape.hidden
    keys = shape.keys if work.gpu or work.length <= BLOCK else shape.queries
    attention = c * (2 * shape.queries + 2 * keys)
    square = shape.heads * work.length * (SINGLE + c) if work.eager else 0
    return work.micro_tokens * (norms + read + attention + square + c * shape.wide)


def kept(work: Work, model: Model) -> float:
    """What a pass keeps until it comes back: L layers, or with gradient checkpointing what goes into each, T w h; and
    the norm and the places in front of the head: T (4 + w + 2 c) h."""
    shape = model.shape
    of_layer = work.micro_tokens * model.width * shape.hidden if work.checkpointed else layer(work, model)
    return shape.layers * of_layer + work.micro_tokens * shape.hidden * (SINGLE + model.width + 2 * work.precision)


def returning(work: Work, model: Model) -> float:
    """What a layer has in hand on the way back beside what is kept: `passing`, and what it makes again."""
    return passing(work, model) + (layer(work, model) if work.checkpointed else 0.0)


def passing(work: Work, model: Model) -> float:
    """What a layer has in hand beside what is kept of it, forward or backward: T c (3 i + 2 h)."""
    return work.micro_tokens * work.precision * (3 * model.shape.active * model.shape.inner + 2 * model.shape.hidden)


def logits(work: Work, model: Model) -> float:
    """n V (c + 4) for the n tokens whose logits stand in memory at once: logits, and probabilities in float32. A scalar
    head has none."""
    return 0.0 if work.scalar else work.head_tokens * model.shape.vocabulary * (work.precision + SINGLE)


def slopes(work: Work, model: Model) -> float:
    """n V 4: probabilities that become the slopes of the logits in their place; and c more where the logits are no
    float32, or are made again on the way back, because they are more than may stand in memory at once."""
    again = work.precision < SINGLE or work.predicted > work.chunk
    return logits(work, model) * (1.0 if again else SINGLE / (SINGLE + work.precision))


def head_gradient(model: Model) -> float:
    """w V h: the gradient of the head, or of the embedding, before it is added to that of the micro-batches before."""
    return model.shape.vocabulary * model.shape.hidden * model.width if model.learns and not model.adapter else 0.0


def cache(written: Written, work: Work, shape: Shape) -> float:
    """2 L g c for each token that is remembered: prompts once for their completions, completions each."""
    prompts = ceil(written.rows / written.of_prompt) * written.prompt
    completions = written.rows * (written.completion + ROOM)
    return 2 * shape.layers * shape.keys * work.precision * (prompts + completions)


def drawing(written: Written, work: Work, shape: Shape) -> float:
    """(c + 8) V for each row: logits, and chances in float32 twice."""
    return written.rows * shape.vocabulary * (work.precision + 2 * SINGLE)

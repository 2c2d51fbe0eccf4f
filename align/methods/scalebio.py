"""ScaleBiO: the weights of sources are learned, such that what learns from them does well on a small trusted set.

Pan, Zhang, Zhang, Pan, Xu, Zhang, Pi, Wang, Zhang, "ScaleBiO: Scalable Bilevel Optimization for LLM Data Reweighting",
2024, arXiv:2406.19976. Minimise over lambda the loss L1 of w*(lambda) on `data.trusted`, where w*(lambda) minimises the
weighted loss L2 of the sources of `data.train`; as a penalty, so that first derivatives are enough:

    loss = L1(w) + alpha [L2(lambda, w) - L2(lambda, u)],   min over lambda and w, max over u
    L2(lambda, w) = sum_i p_i (mean over rows of source i of l(w; row)),   p = softmax(lambda)
    d loss / d lambda_j = alpha p_j (D_j - sum_i p_i D_i),   D_i = mean loss of source i under w, less that under u

l is the mean negative log-likelihood of a row's tokens, L1 that of all tokens of the trusted rows. u, the twin, begins
as the policy w does and learns from the sources alone. Both see the same rows in each step, so that D is a difference
of pairs; all gradients are taken at the old point before w, u and lambda move. A source that is not among the rows of a
step has D = 0, and weights are not renormalised. In the first step u is w, and lambda does not move.

What is kept is the policy, and `sources.json`: weights, and the number of sources of equal weight that they are worth,
exp(H(p)). `data.weights_from: RUN` draws the rows of another run by them: learn the weights, then train anew from the
base model (launch/pipelines/reweight.sh), as the authors did in 2025; their code of 2024 keeps w.

Metrics: `loss` is L1, as on held-out rows; `sources/loss` and `twin/loss` are L2 of the policy and of its twin,
`sources/NAME` and `twin/NAME` the mean losses of one source, `weights/NAME` its weight, `effective_sources` exp(H(p)),
each as the step was made with. In the mean `sources/loss` is not below `twin/loss`, or the twin learns too slowly.

Departures: as in the authors' later code counts are those of the whole step and means are over tokens that count, and
gradient norms are clipped at alpha times `max_grad_norm` (never below it). lambda has no weight decay, which their code
applies at 0.01 without saying so and which pulls to equal weights. Their penalty schedule, of which every published
script has one stage, and layer sampling are left out. The paper's figures for its small experiments are unconfirmed.
With dropout (model.lora.lora_dropout) w and u draw their own, so that D has noise from the first step on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Generic

import torch
from jaxtyping import Int
from torch import Tensor

from align.batches import C, Demonstrations, Sequences, from_row
from align.functional.masked import masked_mean
from align.functional.mixing import mixture_slope
from align.methods.base import Loss, OfflineMethod, Term, remembered
from align.needs import LEARNS, SOURCE, TRAIN, TRUSTED, TWIN, Lesson, Levels
from align.system.ranges import AtLeastOne, NotNegative, Positive


@dataclass(frozen=True, kw_only=True)
class Sourced(Demonstrations[C], Generic[C]):
    """With the source of each row, counted from 0; -1 of rows that are of none."""

    sources: Int[Tensor, " B"] = from_row(SOURCE, -1.0)


@dataclass(frozen=True, kw_only=True)
class ScaleBiO(OfflineMethod[Sourced[Sequences]]):
    name = "scalebio"
    paper = "arXiv:2406.19976"
    usual_rate = 1e-5

    alpha: NotNegative = 10.0  # how dearly the policy pays for what the twin does better; for billions: 100
    weights_rate: Positive = 1e-2  # learning rate of lambda; a hundred times that of the models, or more
    twin_rate: NotNegative = 0.0  # learning rate of the twin; 0: the policy's
    trusted_rows: AtLeastOne = 8  # of the trusted set in each step; fewer make L1 very noisy
    source_names: tuple[str, ...] = remembered(())
    source_weights: tuple[float, ...] = remembered(())  # p

    def levels(self) -> Levels:
        return Levels(self.trusted_rows, self.weights_rate, self.twin_rate, scale=max(1.0, self.alpha))

    def lessons(self) -> Sequence[Lesson]:
        return (
            Lesson(LEARNS, TRUSTED, self.loss),
            Lesson(LEARNS, TRAIN, self.of_sources, self.alpha, "sources/"),
            Lesson(TWIN, TRAIN, self.of_sources, self.alpha, "twin/"),
        )

    def loss(self, batch: Sourced[Sequences]) -> Loss:
        """L1, the upper level."""
        return Loss(Term(-batch.completion.logps, batch.completion.mask))

    def of_sources(self, batch: Sourced[Sequences]) -> Loss:
        """L2, the lower level: a term for each source, weighed by its p."""
        tokens = batch.completion
        losses, kept = masked_mean(-tokens.logps, tokens.mask), tokens.mask.any(-1)
        weighed = enumerate(zip(self.source_names, self.source_weights, strict=True))
        return Loss(None, **{name: Term(losses, kept & (batch.sources == i), p) for i, (name, p) in weighed})

    def source_slopes(self, told: Mapping[str, float]) -> Sequence[float]:
        gaps = [told.get(f"sources/{n}", 0.0) - told.get(f"twin/{n}", 0.0) for n in self.source_names]
        p, d = (torch.tensor(values, dtype=torch.float64) for values in (self.source_weights, gaps))
        return [self.alpha * float(slope) for slope in mixture_slope(p, d)]

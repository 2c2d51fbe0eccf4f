"""Real architectures, tiny, as scorers; and two that are broken."""

from __future__ import annotations

from typing import Any

import torch
from tiny_models import CONFIGS, HEADS, MIXED, PLAIN
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification

from align.models.parts import Windows, head_gap
from align.scoring.layout import Rows, lay_out, visible
from align.scoring.probe import Probe, probe
from align.scoring.score import Kernel, Scorer, scatter

VOCABULARY = 97
GROUPS = probe(VOCABULARY)
SEQUENCES = [member for group in GROUPS for member in group]
MORE: dict[str, dict[str, Any]] = {
    "phi3": {**PLAIN, "sliding_window": 6},
    "olmo2": PLAIN,
    "gpt_oss": {
        **HEADS, **MIXED, "num_local_experts": 4, "num_experts_per_tok": 2,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e4},
    },
    "cohere2": {**HEADS, **MIXED},
    "bloom": {"hidden_size": 32, "n_layer": 2, "n_head": 4, "initializer_range": 0.3},
    "mamba": {"hidden_size": 32, "num_hidden_layers": 2, "state_size": 4, "initializer_range": 0.3},
}  # fmt: skip
PROMISED = ("llama", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text", "gpt2", "gpt_neox", "mistral")
OTHERS = ("mixtral", "granite", "cohere", "cohere2", "opt", "falcon", "phi3", "olmo2", "gpt_oss")
EAGER_ONLY = ("gemma2", "gpt_oss")  # sdpa would drop the soft-capping, has no sinks
KERNELS = [(name, "eager") for name in PROMISED + OTHERS]
KERNELS += [(name, "sdpa") for name in PROMISED + OTHERS if name not in EAGER_ONLY]


def family(name: str, attention: str, head: str = "lm", **changes: Any) -> Scorer:
    ids = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "num_labels": 1}
    config = AutoConfig.for_model(name, **{**(CONFIGS | MORE)[name], "vocab_size": VOCABULARY, **ids, **changes})
    auto: Any = AutoModelForCausalLM if head == "lm" else AutoModelForSequenceClassification
    torch.manual_seed(0)
    model = auto.from_config(config, attn_implementation=attention).eval()
    own_head = head == "scalar" or head_gap(model, torch.arange(10)[None]) < 1e-3
    return Scorer(model, Kernel(attention, own_head=own_head))


def asked(column: str = "logps", longest: int = 0, precision: torch.dtype = torch.float32) -> Probe:
    return Probe(VOCABULARY, column, precision, torch.device("cpu"), longest=longest)


def run(scorer: Scorer, rows: Rows, column: str) -> torch.Tensor:
    """(S, T) log-probabilities of the sequences, or (S,) scores; with gradient."""
    made = scorer(rows, (column,), 1)[column]
    return made if column == "scores" else scatter(made, rows, (len(rows), max(len(m.completion) for m in SEQUENCES)))


def alone(scorer: Scorer, column: str) -> torch.Tensor:
    return torch.cat([run(scorer, lay_out([[member]], "padded"), column) for member in SEQUENCES])


def with_gradients(scorer: Scorer, values: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The values, and what a weighted sum of them asks of every parameter."""
    weights = torch.randn(values.shape, generator=torch.Generator().manual_seed(3))
    scorer.zero_grad()
    (values * weights).sum().backward()
    return values.detach(), {n: p.grad.clone() for n, p in scorer.named_parameters() if p.grad is not None}


def assert_equal_gradients(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> None:
    assert found.keys() == wanted.keys()
    largest = max(float(g.abs().max()) for g in wanted.values())
    assert largest > 0.1
    for name, gradient in wanted.items():
        torch.testing.assert_close(
            found[name], gradient, rtol=1e-4, atol=1e-5 * largest, msg=lambda m, n=name: f"{n}: {m}"
        )


class BooleanMasks(Scorer):
    """Eager attention adds the mask to the scores: a boolean one adds 1 where it should forbid."""

    def _inputs(self, rows: Rows) -> dict[str, Any]:
        inputs = super()._inputs(rows)
        if rows.tree is not None:
            inputs["attention_mask"] = visible(rows, self.windows.window)[:, None]
        return inputs


def broken_by_boolean_masks() -> Scorer:
    good = family("llama", "eager")
    return BooleanMasks(good.model, good.kernel)


def broken_by_forgotten_window(name: str = "mistral", window: int = 6) -> Scorer:
    """One mask for all layers, as if there were no window."""
    scorer = family(name, "sdpa", sliding_window=window)
    scorer.windows = Windows(mapping=False, window=None)
    return scorer

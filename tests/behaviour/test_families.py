"""Real architectures, tiny: packed and shared rows give what one sequence at a time gives, gradients too.

Windows are shorter than the sequences, weights large enough that a wrong mask shows. What a model cannot do must be
found by the check that a run makes at its start, aloud.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from tiny_models import CONFIGS, HEADS, MIXED, PLAIN, WITHOUT_CLASSIFIER
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification

from align.batches import Tokens
from align.models.load import best_attention
from align.models.parts import Windows, head_gap, unwrapped
from align.scoring.attention import attention_mask
from align.scoring.choose_layout import accepted, choose, measured
from align.scoring.layout import RowLayout, Rows, lay_out, visible
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


@pytest.mark.parametrize(("name", "attention"), KERNELS)
def test_log_probabilities_and_gradients_are_those_of_one_sequence_at_a_time(name: str, attention: str):
    scorer = family(name, attention)
    truth, wanted = with_gradients(scorer, alone(scorer, "logps"))
    assert truth[0].std() > 0.1  # logits that are all alike would agree whatever the mask
    for layout in ("packed", "shared"):
        values, found = with_gradients(scorer, run(scorer, lay_out(GROUPS, layout), "logps"))
        torch.testing.assert_close(values, truth, rtol=0, atol=1e-5)
        assert_equal_gradients(found, wanted)
    assert set(measured(scorer, scorer, asked(longest=40)).values()) == {""}


@pytest.mark.parametrize("name", [n for n in PROMISED + OTHERS if n not in (*WITHOUT_CLASSIFIER, "cohere2", "olmo2")])
def test_scores_at_the_last_token(name: str):
    scorer = family(name, "eager" if name in EAGER_ONLY else "sdpa", "scalar")
    truth = alone(scorer, "scores")
    theirs = torch.cat(
        [
            scorer.model(input_ids=torch.as_tensor([[*m.prompt, *m.completion]])).logits[:, 0]
            for m in SEQUENCES
            if m.completion[-1] != 0  # their classifier looks for the last token that is no padding
        ]
    )
    torch.testing.assert_close(truth, theirs, rtol=0, atol=1e-5)
    assert truth.std() > 1e-3
    for layout in ("packed", "shared"):
        torch.testing.assert_close(run(scorer, lay_out(GROUPS, layout), "scores"), truth, rtol=0, atol=1e-5)
    assert set(measured(scorer, scorer, asked("scores")).values()) == {""}


@pytest.mark.parametrize("name", ["bloom", "mamba"])
def test_what_cannot_be_packed_falls_back_to_padded_aloud(name: str):
    scorer = family(name, "eager")
    right = measured(scorer, scorer, asked(longest=40))
    assert right["padded"] == ""
    said: list[str] = []
    assert choose("auto", right, lambda allowed: allowed[-1], said.append) == "padded"
    assert [text.split(":")[0] for text in said] == ["layout packed", "layout shared"]
    assert all(text.endswith("not used") for text in said)
    assert choose("shared", right, lambda allowed: allowed[-1], said.append) == "padded"
    assert said[-1].startswith("layout shared: ")


# ---- a check that can fail ------------------------------------------------------------------------------------------


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


def test_boolean_masks_under_eager_are_found():
    broken = broken_by_boolean_masks()
    found = accepted(broken, asked())
    assert found["padded"] == ""
    assert "logps differ by" in found["packed"]
    assert "logps differ by" in found["shared"]


@pytest.mark.parametrize("name", ["mistral", "gemma3_text"])
def test_a_forgotten_window_is_found(name: str):
    found = accepted(broken_by_forgotten_window(name), asked())
    assert found["padded"] == ""
    assert "differ" in found["packed"]
    assert "differ" in found["shared"]


def test_a_window_counted_in_places_is_found():
    """Packed rows are right then; in shared ones the second completion stands too far from its prompt."""

    class Places(Scorer):
        def _inputs(self, rows: Rows) -> dict[str, Any]:
            inputs = super()._inputs(rows)
            if rows.tree is not None:
                place = torch.arange(rows.input_ids.shape[1]).expand_as(rows.input_ids)
                moved = dataclasses.replace(rows, position_ids=place)
                inputs["attention_mask"] = attention_mask(moved, self.windows, "sdpa", torch.float32)
            return inputs

    good = family("mistral", "sdpa")
    found = accepted(Places(good.model, good.kernel), asked())
    assert found["packed"] == ""
    assert "differ" in found["shared"]


def test_a_window_longer_than_the_probe_is_seen_by_the_longest_sequence_of_the_data():
    """Nothing in the config speaks of it: only a sequence that is longer than the window can tell."""
    broken = broken_by_forgotten_window(window=24)
    assert set(measured(broken, broken, asked()).values()) == {""}
    found = measured(broken, broken, asked(longest=40))
    assert found["padded"] == ""
    assert "at 40 tokens" in found["packed"]
    assert "at 40 tokens" in found["shared"]


def test_a_window_longer_than_any_sequence_is_made_short_for_the_check():
    good = family("gemma3_text", "sdpa", sliding_window=4096)
    assert set(measured(good, good, asked()).values()) == {""}
    assert good.windows.window == unwrapped(good.model).config.sliding_window == 4096

    class OneMask(Scorer):
        """The window in every layer's mask, where only some of the layers have it."""

        def _inputs(self, rows: Rows) -> dict[str, Any]:
            inputs = super()._inputs(rows)
            if rows.tree is not None:
                inputs["attention_mask"] = inputs["attention_mask"]["sliding_attention"]
            return inputs

    broken = OneMask(good.model, good.kernel)
    assert set(accepted(broken, asked()).values()) == {""}  # the real window is too long to see
    found = measured(broken, broken, asked())
    assert found["padded"] == ""
    assert "differ" in found["packed"]
    assert "differ" in found["shared"]


def test_layers_that_no_mask_describes_are_refused():
    scorer = family("llama", "sdpa")
    scorer.windows = Windows(mapping=False, window=None, known=False)
    found = measured(scorer, scorer, asked())
    assert found["padded"] == ""
    assert "more than a mask can say" in found["packed"]


def test_a_model_whose_answers_say_nothing_is_not_trusted():
    scorer = family("llama", "sdpa")
    unwrapped(scorer.model).lm_head.weight.data.zero_()
    found = accepted(scorer, asked())
    assert found["padded"] == ""
    assert "nothing can be measured" in found["packed"]


def test_in_bfloat16_a_broken_mask_still_shows():
    good = family("llama", "eager")
    unwrapped(good.model).bfloat16()
    assert set(accepted(good, asked(precision=torch.bfloat16)).values()) == {""}
    broken = BooleanMasks(good.model, good.kernel)
    found = accepted(broken, asked(precision=torch.bfloat16))
    assert found["packed"]
    assert found["shared"]


# ---- flex attention -------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.filterwarnings("ignore:.torch.jit.script_method. is deprecated:DeprecationWarning")  # torch's own
@pytest.mark.parametrize("name", ["llama", "qwen3", "gemma2", "gemma3_text", "mistral", "gpt_neox"])
def test_flex_attention_scores_as_eager_does(name: str):
    """Forward only, and uncompiled: torch has no backward on a CPU. The gradient is for a GPU."""
    scorer = family(name, "eager")
    truth = alone(scorer, "logps").detach()
    unwrapped(scorer.model).set_attn_implementation("flex_attention")
    scorer.kernel = dataclasses.replace(scorer.kernel, attention="flex_attention")
    layouts: tuple[RowLayout, ...] = ("packed", "shared")
    for layout in layouts:
        with torch.no_grad(), torch.compiler.set_stance("force_eager"):
            values = run(scorer, lay_out(GROUPS, layout, row_tokens=200), "logps")
        torch.testing.assert_close(values, truth, rtol=0, atol=1e-5)


def test_which_kernel_is_chosen():
    def choice(name: str, device: str, **changes: Any) -> str:
        model = family(name, "eager", **changes).model
        return best_attention(type(model), model.config, device)

    wide = {"head_dim": 16}
    assert choice("llama", "cpu", **wide) == "sdpa"
    assert choice("llama", "cuda", **wide) == "flex_attention"
    assert choice("gemma2", "cpu", **wide) == "eager"
    assert choice("gemma2", "cuda", **wide) == "flex_attention"
    assert choice("llama", "cuda", head_dim=8) == "sdpa"  # narrower than the kernel's smallest block
    assert choice("llama", "cuda", **wide, attention_dropout=0.1) == "sdpa"
    assert choice("gpt2", "cuda", n_embd=64) == "sdpa"  # refuses flex attention
    assert choice("bloom", "cuda") == "eager"


def test_padding_is_harmless():
    """A row of the mask that forbids everything would be NaN."""
    short = Tokens(SEQUENCES[0].prompt[:2], SEQUENCES[0].completion[:1], SEQUENCES[0].mask[:1])
    for attention in ("sdpa", "eager"):
        scorer = family("llama", attention)
        rows = lay_out([*GROUPS, [short]], "shared")
        assert (rows.tree == -1).any()
        _, gradients = with_gradients(scorer, scorer(rows, ("logps",), 1)["logps"])
        assert all(g.isfinite().all() for g in gradients.values())

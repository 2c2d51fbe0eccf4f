"""Real architectures, tiny: packed and shared rows give what one sequence at a time gives, gradients too.

Windows are shorter than the sequences, weights large enough that a wrong mask shows. What a model cannot do must be
found by the check that a run makes at its start, aloud.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from families import (
    EAGER_ONLY,
    GROUPS,
    KERNELS,
    OTHERS,
    PROMISED,
    SEQUENCES,
    BooleanMasks,
    alone,
    asked,
    assert_equal_gradients,
    broken_by_boolean_masks,
    broken_by_forgotten_window,
    family,
    run,
    with_gradients,
)
from tiny_models import WITHOUT_CLASSIFIER

from align.batches import Tokens
from align.models.load import best_attention
from align.models.parts import Windows, unwrapped
from align.scoring.attention import attention_mask
from align.scoring.choose_layout import accepted, choose, measured
from align.scoring.layout import RowLayout, Rows, lay_out
from align.scoring.score import Scorer


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

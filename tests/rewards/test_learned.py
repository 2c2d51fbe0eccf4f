"""A reward model as a reward function scores what training's own scorer scores."""

from __future__ import annotations

import pytest
import torch

from align.data.forest import lay_out
from align.errors import UserError
from align.models.parts import unwrapped
from align.rewards.learned import Reader, Reward
from align.training.score import Kernel, Scorer


def test_it_scores_as_training_does():
    prompts = ["Once upon a time", "One day, a dog", "Once upon a time"]
    completions = [" there was a cat.", " ran.", " it rained, and rained, and everyone was wet."]
    reward = Reward("asset:stories260k", batch_size=2)  # its scalar head is new, and the same each time
    reader = Reader("asset:stories260k")
    found = reward(prompts, completions)
    tokens = reader.read(prompts, completions)
    assert all(t.completion[-1] == reader.encoder.eos for t in tokens)
    scorer = Scorer(reader.model, Kernel(unwrapped(reader.model).config._attn_implementation))
    with torch.no_grad():
        alone = [scorer(lay_out([[t]], "padded"), ("scores",), 1)["scores"].item() for t in tokens]
    assert found == pytest.approx(alone, abs=1e-5)
    assert len(set(found)) == 3


def test_a_folder_without_weights_is_told_before_training(tmp_path):
    with pytest.raises(UserError, match="folder with weights"):
        Reward(str(tmp_path))

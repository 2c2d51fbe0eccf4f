"""A reward model as a reward function scores what training's own scorer scores."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import align
from align.errors import UserError
from align.models.load import load_policy
from align.models.parts import unwrapped
from align.models.settings import ModelSection
from align.models.tokenizer import load_tokenizer
from align.rewards.learned import Reward, ScalarModel
from align.scoring.layout import lay_out
from align.scoring.score import Kernel, Scorer


@pytest.fixture(scope="module")
def reward_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("reward") / "model"
    section = ModelSection(model_name_or_path="asset:stories260k")
    tokenizer = load_tokenizer(section, "scalar")
    load_policy(section, tokenizer, "scalar", Path()).save_pretrained(folder)  # its head is drawn, the same each time
    tokenizer.save_pretrained(folder)
    return str(folder)


def test_it_scores_as_training_does(reward_model: str):
    prompts = ["Once upon a time", "One day, a dog", "Once upon a time"]
    completions = [" there was a cat.", " ran.", " it rained, and rained, and everyone was wet."]
    reward = Reward(reward_model, batch_size=2)
    reader = ScalarModel(reward_model)
    found = reward(prompts, completions)
    tokens = reader.read(prompts, completions)
    assert all(t.completion[-1] == reader.encoder.eos for t in tokens)
    scorer = Scorer(reader.model, Kernel(unwrapped(reader.model).config._attn_implementation))
    with torch.no_grad():
        alone = [scorer(lay_out([[t]], "padded"), ("scores",), 1)["scores"].item() for t in tokens]
    assert found == pytest.approx(alone, abs=1e-5)
    assert len(set(found)) == 3


def test_a_language_model_is_no_judge():
    """Its scalar head would be drawn, and the policy would learn noise."""
    with pytest.raises(UserError, match="holds a LlamaForCausalLM, which has no scalar head"):
        ScalarModel("asset:stories260k")
    folder = str(Path(align.__file__).parent / "assets" / "stories260k")
    with pytest.raises(UserError, match="name the folder of a reward model"):
        Reward(model=folder)


def test_a_folder_without_weights_is_told_before_training(tmp_path):
    with pytest.raises(UserError, match="folder with weights"):
        Reward(str(tmp_path))

"""What is sampled is what is said, whatever a folder's generation config holds; and it is saved as it was."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from align import assets
from align.cli.chat import Style, load_partner
from align.errors import UserError
from align.models.generate import continued
from align.models.save import save_final
from align.models.tokenizer import stop_ids

PROMPT = "Once upon a time"
ODD: list[dict[str, Any]] = [
    {"repetition_penalty": 1.05}, {"repetition_penalty": 9.0}, {"no_repeat_ngram_size": 1}, {"num_beams": 3},
    {"forced_eos_token_id": 2}, {"stop_strings": ["the"]}, {"return_dict_in_generate": True}, {"dola_layers": "low"},
    {"penalty_alpha": 0.6, "top_k": 4}, {"watermarking_config": {"greenlist_ratio": 0.3}}, {"early_stopping": True},
    {"length_penalty": 2.0}, {"output_scores": True}, {"do_sample": True, "temperature": 5.0}, {"max_new_tokens": 2},
]  # fmt: skip


def folder(path: Path, generation: dict[str, Any]) -> Path:
    shutil.copytree(Path(assets.__file__).parent / "stories260k", path)
    (path / "generation_config.json").write_text(json.dumps({"eos_token_id": 2} | generation))
    return path


@pytest.mark.parametrize("odd", ODD, ids=str)
def test_temperature_0_is_greedy_and_the_folder_is_saved_as_it_was(
    odd: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    partner = load_partner(str(folder(tmp_path / "model", odd)), Style(max_new_tokens=12, temperature=0.0))
    ids = partner.prompt(PROMPT)
    greedy = list(ids)
    with torch.no_grad():
        for _ in range(12):
            greedy.append(int(partner.model(input_ids=torch.tensor([greedy])).logits[0, -1].argmax()))
    assert partner.answer(PROMPT) == partner.tokenizer.decode(greedy[len(ids) :], skip_special_tokens=True)
    assert continued(partner.model, partner.tokenizer, ids, 12) == greedy[len(ids) :]
    save_final(partner.model, partner.tokenizer, tmp_path / "final")
    saved = json.loads((tmp_path / "final/generation_config.json").read_text())
    assert {key: saved.get(key) for key in odd if key != "watermarking_config"} == {
        key: value for key, value in odd.items() if key != "watermarking_config"
    }
    assert saved["eos_token_id"] == list(stop_ids(partner.tokenizer, partner.model))


def test_a_stop_id_that_is_no_number_is_told_with_its_file(tmp_path: Path):
    with pytest.raises(UserError, match=r"generation_config.json: eos_token_id: found '</s>'; expected the id"):
        load_partner(str(folder(tmp_path / "model", {"eos_token_id": "</s>"})), Style())

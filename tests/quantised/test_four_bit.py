"""QLoRA on the CPU: an adapter above weights of 4 bits, trained, resumed, read again and exported."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from mistakes import RECIPE, STORIES, dump, pairs
from peft import LoraConfig
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, BitsAndBytesConfig
from trl import SFTConfig

from align.cli.main import main
from align.errors import UserError
from align.models.load import load_policy
from align.models.quantised import told
from align.models.settings import LoraSection, ModelSection
from align.models.tokenizer import load_tokenizer
from align.trl.arguments import recipe_of

STEPS = "max_steps: 2, layout: padded, save_steps: 1", "max_steps: 4, save_steps: 2"
RUN = RECIPE.replace("1.0e-4", "1.0e-2").replace(*STEPS)
FOUR = ("model.load_in_4bit=true", "model.lora={r: 4}")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    dump("rows.jsonl", *pairs(8))
    Path("mine.yaml").write_text(RUN)


def loaded(section: ModelSection):
    return load_policy(section, load_tokenizer(section), "lm", Path()).eval()


@torch.no_grad()
def logits(model) -> torch.Tensor:
    return model(input_ids=torch.arange(3, 35)[None]).logits


def close(one: torch.Tensor, other: torch.Tensor, share: float) -> bool:
    return float((one - other).abs().max()) <= share * float(other.abs().max())


@pytest.mark.parametrize("more", [{}, {"bnb_4bit_quant_type": "fp4"}, {"bnb_4bit_use_double_quant": True}])
def test_a_base_of_four_bits_is_near_the_one_it_was_made_of(more):
    section = ModelSection(model_name_or_path="asset:stories260k", load_in_4bit=True, lora=LoraSection(r=2), **more)
    model = loaded(section)
    weights = {name: p for name, p in model.named_parameters() if type(p).__name__ == "Params4bit"}
    assert len(weights) == 5 * 7  # of each layer the matrices of attention and MLP; not the head
    assert all(p.dtype == torch.uint8 and not p.requires_grad for p in weights.values())
    assert "weights beneath the adapter are kept in 4 bits" in told(model)[0]
    exact = AutoModelForCausalLM.from_pretrained(STORIES)
    assert not torch.equal(logits(model), logits(exact))
    assert close(logits(model), logits(exact), 0.25 if more.get("bnb_4bit_quant_type") == "fp4" else 0.15)


def test_a_run_learns_resumes_and_is_read_again_as_it_was_trained(capsys: pytest.CaptureFixture[str]):
    assert main(["train", "mine.yaml", *FOUR]) == 0
    told = capsys.readouterr().out
    assert "weights beneath the adapter are kept in 4 bits" in told
    losses = [json.loads(line)["loss"] for line in Path("run/metrics.jsonl").read_text().splitlines()]
    assert losses[0] == pytest.approx(0.6931, abs=1e-3)  # the reference is the same base, the adapter off
    assert losses[-1] < losses[0] - 0.01
    again = ["train", "mine.yaml", *FOUR, "training.output_dir=other"]
    assert main([*again, "--resume", "run/checkpoints/step-000002"]) == 0
    one, other = (load_file(f"{run}/final/adapter_model.safetensors") for run in ("run", "other"))
    assert all(torch.equal(one[name], other[name]) for name in one)

    otherwise = ["training.output_dir=packed", "training.layout=packed", "training.max_tokens=80"]
    assert main(["train", "mine.yaml", *FOUR, *otherwise]) == 0
    packed = [json.loads(line)["loss"] for line in Path("packed/metrics.jsonl").read_text().splitlines()]
    assert packed == pytest.approx(losses, abs=1e-4)  # layouts and micro-batches change no number

    note = json.loads(Path("run/final/align_base.json").read_text())
    assert note["load_in_4bit"] == {"bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": False}
    wide = loaded(ModelSection(model_name_or_path="run"))  # the very base, in full width
    assert not any(type(p).__name__ == "Params4bit" for p in wide.parameters())
    narrow = loaded(ModelSection(model_name_or_path="run", load_in_4bit=True))
    assert close(logits(wide), logits(narrow), 1e-4)

    capsys.readouterr()
    for what, out in (("run", "out"), ("run/checkpoints/step-000004", "of_checkpoint")):
        assert main(["export", what, out]) == 0
        assert "float32, the base as what its 4 bits stand for, reloaded" in capsys.readouterr().out
    assert Path("out/model.safetensors").read_bytes() == Path("of_checkpoint/model.safetensors").read_bytes()
    assert close(logits(AutoModelForCausalLM.from_pretrained("out")), logits(wide), 1e-4)
    assert "quantization_config" not in json.loads(Path("out/config.json").read_text())
    on = ["model.model_name_or_path=run", "training.output_dir=on", "training.max_steps=1"]
    assert main(["train", "mine.yaml", *on]) == 0
    assert json.loads(Path("on/final/align_base.json").read_text())["load_in_4bit"] == note["load_in_4bit"]


@pytest.mark.parametrize(
    ("words", "finding"),
    [
        (["model.load_in_4bit=true"], "weights of 4 bits do not learn; train an adapter on them: model.lora={}"),
        ([*FOUR, "model.lora.use_dora=true"], "its magnitudes are those of exact weights"),
        (["model.bnb_4bit_quant_type=fp4"], "has no effect without model.load_in_4bit"),
        ([*FOUR, "--sharding", "zero3"], "weights of 4 bits are not divided"),
        ([*FOUR, "model.load_in_8bit=true"], "model.load_in_8bit: no such key"),
    ],
)
def test_what_does_not_go_together_is_told(words: list[str], finding: str, capsys: pytest.CaptureFixture[str]):
    assert main(["check", "mine.yaml", *words]) == 2
    assert finding in capsys.readouterr().err


def test_trls_config_of_four_bits_is_taken():
    given = {"model": "asset:stories260k", "args": SFTConfig("out", use_cpu=True, bf16=False)}
    given |= {"train_dataset": Dataset.from_list([{"prompt": "a", "completion": "b"}]), "peft_config": LoraConfig(r=4)}
    four = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True)
    model = recipe_of("sft", {**given, "quantization_config": four})["model"]
    assert model["load_in_4bit"]
    assert (model["bnb_4bit_quant_type"], model["bnb_4bit_use_double_quant"]) == ("nf4", True)
    with pytest.raises(UserError, match="quantization_config: found BitsAndBytesConfig; weights of 4 bits"):
        recipe_of("sft", {**given, "quantization_config": BitsAndBytesConfig(load_in_8bit=True)})

"""The arithmetic of `align plan` against what torch really keeps, and against what it is told."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedModel

from align.batches import Tokens
from align.cli.main import main
from align.cluster.settings import Sharding
from align.plan import parts
from align.plan.peak import memory
from align.plan.shapes import shape_of
from align.plan.sharding import SHARDINGS
from align.plan.work import HALF, SINGLE, Model, Work
from align.scoring.layout import lay_out
from align.scoring.score import Kernel, Scorer
from tests.bench import plan_study

ROWS, LENGTH = 16, 128
WIDTHS: dict[str, Any] = {
    "hidden_size": 128, "intermediate_size": 512, "num_attention_heads": 4, "num_key_value_heads": 2,
    "vocab_size": 512, "tie_word_embeddings": False,
}  # fmt: skip
BIG = {"model_type": "llama", **WIDTHS, "hidden_size": 8192, "num_hidden_layers": 80, "intermediate_size": 28672}


def model(layers: int, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    return AutoModelForCausalLM.from_config(LlamaConfig(num_hidden_layers=layers, **WIDTHS), dtype=dtype)


def work(layers: int, width: int, precision: int) -> Work:
    shape = shape_of({"model_type": "llama", "num_hidden_layers": layers, **WIDTHS})
    policy = Model(words="policy", shape=shape, weights=shape.count(), width=width, learns=True, moments=2)
    return Work(
        policy=policy, precision=precision, at_once=ROWS, chunk=10**6, batch=ROWS, members=1, length=LENGTH, ranks=1,
        gpu=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("dtype", "width", "autocast"),
    [(torch.float32, SINGLE, False), (torch.float32, SINGLE, True), (torch.bfloat16, HALF, False)],
)
def test_a_layer_keeps_what_the_formula_says(dtype: torch.dtype, width: int, autocast: bool):
    """One layer more keeps so many bytes more, as autograd is told of them, weights in their own precision apart."""
    found: list[int] = []
    for layers in (1, 2):
        scorer = Scorer(model(layers, dtype), Kernel("sdpa", torch.bfloat16 if autocast else None)).train()
        known = {p.untyped_storage().data_ptr() for p in scorer.parameters()}
        kept: dict[int, int] = {}

        def keep(tensor: Tensor, known: set[int] = known, kept: dict[int, int] = kept) -> Tensor:
            storage = tensor.untyped_storage()
            kept |= {storage.data_ptr(): storage.nbytes()} if storage.data_ptr() not in known else {}
            return tensor

        prompt, said = np.ones(8, np.int32), np.ones(LENGTH - 8, np.int32)
        rows = lay_out([[Tokens(prompt, said, said > 0)]] * ROWS, "padded")
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            scorer(rows, ("logps",), 1)
        found.append(sum(kept.values()))
    one = work(2, width, HALF if autocast else width)
    lowered = one.policy.shape.of_layer() * HALF if autocast else 0
    assert found[1] - found[0] == pytest.approx(parts.layer(one, one.policy) + lowered, rel=0.02)


def test_weights_are_counted_as_transformers_makes_them():
    shape = shape_of({"model_type": "llama", "num_hidden_layers": 3, **WIDTHS})
    assert shape.count() == sum(p.numel() for p in model(3).parameters())


def test_a_pass_leaves_no_copies_of_weights_behind_where_its_layers_are_made_again():
    """Under autocast torch would remember all that it has lowered until the pass has ended."""
    wide: dict[str, Any] = WIDTHS | {"hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 8}
    config = LlamaConfig(**wide)
    large: Any = AutoModelForCausalLM.from_config(config)
    large.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    scorer = Scorer(large, Kernel("sdpa", torch.bfloat16)).train()
    rows = lay_out([[Tokens(np.ones(4, np.int32), np.ones(4, np.int32), np.ones(4, bool))]], "padded")
    scorer(rows, ("logps",), 1)
    held = plan_study.status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    scorer(rows, ("logps",), 1)
    copies = HALF * sum(p.numel() for p in large.parameters())
    assert plan_study.status("VmHWM") - held < copies / 4


def test_every_sharding_that_can_be_asked_for_is_foreseen():
    assert list(SHARDINGS) == list(get_args(Sharding))


def test_what_is_whole_is_sixteen_bytes_a_weight_and_what_is_divided_a_share_of_it():
    """float32 weights, gradients and two moments; activations are the same everywhere."""
    one = dataclasses.replace(work(80, SINGLE, SINGLE), batch=4 * ROWS, ranks=2)
    held = {name: memory(one, sharding) for name, sharding in SHARDINGS.items()}
    whole = 16 * one.policy.weights
    parts_of = ("weights", "gradients", "AdamW states")
    assert sum(held["ddp"].parts[part] for part in parts_of) == whole
    assert sum(held["zero3"].parts[part] for part in parts_of) == whole / 2
    assert held["zero2"].peak < held["zero1"].peak < held["ddp"].peak


@pytest.fixture
def seventy(tmp_path: Path) -> str:
    (path := tmp_path / "config.json").write_text(json.dumps(BIG | {"num_key_value_heads": 8, "vocab_size": 128256}))
    return str(path)


def test_where_nothing_fits_it_is_said_what_would(seventy: str, capsys: pytest.CaptureFixture[str]):
    assert main(["plan", "dpo", "--gpus", "8", "--memory", "80", "--model-config", seventy]) == 0
    said = capsys.readouterr().out
    assert "nothing fits 74.5 GB. What each of these would bring, alone:" in said
    assert "main memory of a node (GB)" in said, "what offloading would need is told beside the others"
    assert "training.gradient_checkpointing=true (a third more computing): " in said
    assert ": fits with " in said.partition("Together: ")[2]
    assert main(["plan", "dpo", "--gpus", "8", "--memory", "2000", "--model-config", seventy]) == 0
    assert "take --sharding " in capsys.readouterr().out
    with_main_memory = ("optim.optim=Adafactor", "training.gradient_checkpointing=true", "data.max_length=64")
    assert main(["plan", "dpo", "--gpus", "8", "--memory", "80", "--model-config", seventy, *with_main_memory]) == 0
    said = capsys.readouterr().out
    assert "fsdp2 is left out: optim.optim: Adafactor keeps numbers for rows and columns" in said
    assert "take --sharding zero3 --offload param: the shortest step" in said


def test_a_model_folder_may_be_a_config_alone(seventy: str, capsys: pytest.CaptureFixture[str]):
    words = ("plan", "sft", f"model.model_name_or_path={Path(seventy).parent}", "--gpus=16", "--tokens", "256")
    assert main(list(words)) == 0
    assert "80 layers of width 8192; 128,256 tokens" in capsys.readouterr().out


def test_an_adapter_is_counted_on_its_base(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """As an adapter that a run left is gone on with: 6 x 64 + 3 x 64 weights of it, the shipped model's below."""
    (tmp_path / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "asset:stories260k"}))
    file = tmp_path / "adapter_model.safetensors"
    save_file({"a": torch.zeros(6, 64), "b": torch.zeros(64, 3)}, file)
    words = [f"model.model_name_or_path={tmp_path}", "model.tokenizer_name_or_path=asset:stories260k"]
    assert main(["plan", "sft", *words]) == 0
    assert "policy: 260,032 weights of 4 bytes, 576 of them an adapter's that learns" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--gpus", "12"), "--gpus: 12 are no whole number of nodes of 8 (--gpus-per-node)"),
        (("--gpu", "8"), "--gpu: no such option; there are --gpus, "),
        (("--memory", "nan"), "--memory: found nan; expected a finite number"),
        (("--tokens", "513"), "--tokens: 513 is more than the 512 that the recipe allows a sequence"),
        (("--memory", "0", "--device", "x"), "--memory: 0 must be more than 0\n--device: x is none of a100, h100"),
        (("--memory", "1"), "--memory: 1 GB are less than the 1.5 that a GPU needs itself"),
        (("--model-config", "/nowhere.json"), "/nowhere.json: no such file"),
        (("method.bta=1",), "method.bta: no such key"),
    ],
)
def test_wrong_options_are_told(words: tuple[str, ...], told: str, capsys: pytest.CaptureFixture[str]):
    assert main(["plan", "dpo", *words]) == 2
    assert told in capsys.readouterr().err


# ---- measured -------------------------------------------------------------------------------------------------------


@pytest.mark.processes
def test_a_run_holds_what_was_foreseen(tmp_path: Path):
    """One cell of the study, in a process of its own."""
    found = plan_study.run(("sft", "gradient checkpointing"), tmp_path)
    assert found["foreseen"] == pytest.approx(found["measured"], rel=plan_study.BAND)


def test_the_page_shows_the_study_and_all_of_it_is_in_the_band(repository: Path):
    cells = plan_study.read()
    assert [plan_study.key(cell) for cell in cells] == plan_study.all_cells()
    for cell in cells:
        assert cell["foreseen"] == pytest.approx(cell["measured"], rel=plan_study.BAND), cell
    page = (repository / "launch/README.md").read_text(encoding="utf-8")
    assert plan_study.MARKS[0] + plan_study.table(cells) + plan_study.MARKS[1] in page

"""Public example configs of six projects, key for key: each is accounted for, and the recipe does what they do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from small_runs import lines, told, train

from align.cli.main import main
from align.cli.translate import Wishes, drafted, read
from align.recipe.load import Recipe, load_recipe
from align.translate.draft import Draft, Fate
from align.translate.written import account_lines, launch_lines, lost, recipe_text

CONFIGS = Path(__file__).parent / "configs"
PAIRS = "asset:polite_pairs/train.jsonl"
STORIES = "asset:story_openings/train.jsonl"
HERE = (
    "model.model_name_or_path=asset:stories260k", "data.max_length=128", "data.mixture=null", "logging.report_to=[]",
    "data.chat_template=null", "training.eval_steps=0", "training.num_train_epochs=null", "training.max_steps=2",
)  # fmt: skip  # what is local, and two steps
ASKED = "data.columns={prompt: '{instruction}'}"
BY_DEVICE = ("per_device_train_batch_size", "gradient_accumulation_steps")
SMALL = ("training.batch_size=4", *(f"training.{key}=null" for key in BY_DEVICE))


def draft_of(name: str, **wishes: Any) -> tuple[dict[str, Any], Draft]:
    path, values, command = read([str(CONFIGS / name)])
    return values, drafted(path, values, command, Wishes(**wishes))


@pytest.mark.parametrize("name", sorted(p.name for p in CONFIGS.iterdir()))
def test_every_key_is_accounted_for(name: str, tmp_path: Path):
    values, draft = draft_of(name)
    assert values.keys() <= draft.accounts.keys()
    assert not [a.key for a in lost(draft) if "known here" in a.words]
    (tmp_path / "mine.yaml").write_text(recipe_text(draft, name))
    assert checked(tmp_path / "mine.yaml", draft).method_name == draft.recipe["method.name"]


def checked(path: Path, draft: Draft, *words: str) -> Recipe:
    """The recipe on what is here; all that it says beside that must be right."""
    online = "rollout.num_generations" in draft.recipe
    rows = "{}" if online or draft.recipe["method.name"] == "sft" else "{prompt: '{instruction}'}"
    rows = "{prompt: '{instruction}', completion: chosen}" if draft.recipe["method.name"] in ("sft", "dft") else rows
    local = [*HERE, f"data.train={STORIES if online else PAIRS}", f"data.columns={rows}", "data.validation=0.1"]
    local += ["model.lora.target_modules=all-linear"] if "model.lora.r" in draft.recipe else []
    if online:
        local += ["reward.functions=[repetition]", "model.critic=null", "rollout.engine=local",
                  "rollout.max_completion_length=16"]  # fmt: skip
        local += [f"{key}=null" for key in draft.recipe if key.startswith("rollout.vllm")]
    return load_recipe(path, [*local, "training.save_steps=0", *words], world_size=1)


EXPECTED: dict[str, dict[str, Any]] = {  # what they do, also where they leave it to their project
    "handbook_dpo.yaml": {
        "method.name": "dpo", "method.beta": 0.01, "optim.learning_rate": 5e-7, "optim.warmup_ratio": 0.1,
        "optim.lr_scheduler_type": "cosine", "optim.weight_decay": 0.0, "training.per_device_train_batch_size": 8,
        "training.gradient_accumulation_steps": 2, "data.max_prompt_length": 512, "data.overlong": "cut_prompt",
        "data.mixture": "rows", "training.seed": 42, "optim.max_grad_norm": 1.0, "training.eval_steps": 100,
    },
    "handbook_qlora.yaml": {
        "method.name": "sft", "model.lora.r": 16, "model.lora.lora_alpha": 16, "model.lora.lora_dropout": 0.05,
        "data.loss_on": "all", "data.max_length": 2048, "training.eval_steps": 0, "model.dtype": "bfloat16",
        "model.load_in_4bit": True, "model.bnb_4bit_quant_type": "nf4", "model.bnb_4bit_use_double_quant": False,
    },
    "handbook_orpo.yaml": {"method.name": "orpo", "method.lam": 0.05, "optim.warmup_steps": 100,
                           "optim.optim": "AdamW8bit", "training.save_steps": 0, "data.max_prompt_length": 1792},
    "open_r1_grpo.yaml": {
        "method.name": "grpo", "method.kl_coef": 0.0, "method.aggregation": "token_mean", "training.batch_size": 256,
        "rollout.num_generations": 7, "rollout.temperature": 1.0, "data.max_length": 512, "rollout.engine": "vllm",
        "rollout.max_completion_length": 1024, "optim.learning_rate": 2e-5,
    },
    "open_r1_sft.yaml": {"optim.lr_scheduler_type": "cosine_with_min_lr", "data.max_length": 32768,
                         "optim.lr_scheduler_kwargs": {"min_lr_rate": 0.1}, "training.num_train_epochs": 15.0,
                         "training.save_steps": 0.066667},
    "trl_sft.sh": {"training.batch_size": 128, "optim.lr_scheduler_type": "linear", "data.max_length": 1024,
                   "model.lora.lora_dropout": 0.05, "training.mixed_precision": "bf16", "training.save_steps": 500},
    "trl_kto.sh": {"method.name": "kto", "method.beta": 0.1, "optim.warmup_ratio": 0.1, "training.eval_steps": 0,
                   "data.overlong": "cut_completion", "training.per_device_train_batch_size": 16},
    "axolotl_lora.yaml": {"method.name": "sft", "data.loss_on": "assistant", "data.overlong": "drop",
                          "training.eval_steps": 0.25, "training.save_steps": 0, "optim.warmup_steps": 10},
    "axolotl_dpo.yaml": {"method.beta": 0.1, "model.lora.target_modules": "all-linear", "training.save_steps": 0.25,
                         "training.eval_steps": 0.0625, "data.validation": 0.05},
    "llama_factory_dpo.yaml": {"method.beta": 0.1, "model.lora.lora_alpha": 16, "model.lora.lora_dropout": 0.0,
                               "data.num_rows": 1000, "training.num_train_epochs": 3.0},
    "llama_factory_kto.yaml": {"method.name": "kto", "model.lora.r": 8, "data.validation": 0.1},
    "openrlhf_dpo.sh": {"training.batch_size": 256, "optim.adam_beta2": 0.95, "optim.warmup_ratio": 0.03,
                        "optim.lr_scheduler_type": "cosine_with_min_lr", "data.max_length": 8192},
    "openrlhf_ppo.sh": {"method.name": "ppo", "method.value_clip": 0.5, "method.lam": 1, "rollout.num_prompts": 1024,
                        "training.batch_size": 128, "model.critic.learning_rate": 9e-6, "rollout.engine": "vllm"},
}  # fmt: skip


@pytest.mark.parametrize("name", EXPECTED)
def test_the_numbers_are_those_of_the_original(name: str):
    _, draft = draft_of(name)
    assert {key: draft.recipe.get(key) for key in EXPECTED[name]} == EXPECTED[name]


def test_launch_lines_say_how_many_and_how_divided():
    _, draft = draft_of("trl_sft.sh")
    start, upload = launch_lines(draft, "mine.yaml")
    assert start == "align launch local mine.yaml --processes 8 --sharding zero3"
    assert upload == "hf upload Qwen2-0.5B-SFT Qwen2-0.5B-SFT/final"
    assert "  beta -> method.beta: 0.01" in account_lines(draft_of("handbook_dpo.yaml")[1])
    assert launch_lines(draft_of("openrlhf_ppo.sh")[1], "a.yaml")[0] == "align launch local a.yaml --sharding zero3"
    words = ["torchrun", "--nproc-per-node=4", "--nnodes=2", "dpo.py", "--model_name_or_path=a", "--dataset_name=b"]
    for wishes, line in (
        (Wishes(), "align launch slurm a.yaml --nodes 2 --gpus-per-node 4 --sharding ddp"),
        (Wishes(processes=3), "align launch local a.yaml --processes 3 --sharding ddp"),
        (Wishes(processes=1), "align train a.yaml"),
    ):
        assert launch_lines(drafted(*read(words), wishes), "a.yaml") == [line]


def test_what_is_not_offered_is_told_with_its_reason():
    wanted = {name: {a.key for a in lost(draft_of(name)[1])} for name in EXPECTED}
    assert wanted["handbook_dpo.yaml"] == {"dataset_mixture"}  # a count of held-out rows
    assert wanted["handbook_qlora.yaml"] == {"dataset_mixture"}
    assert wanted["trl_kto.sh"] == set()
    assert wanted["axolotl_lora.yaml"] == {"datasets", "sample_packing"}
    assert wanted["openrlhf_dpo.sh"] == set()
    _, draft = draft_of("trl_kto.sh")
    assert {a.key: a.fate for a in draft.accounts.values()}["logging_first_step"] is Fate.NO_MEANING


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("handbook_dpo.yaml", (f"data.train={PAIRS}", ASKED, *SMALL)),
        ("trl_kto.sh", (f"data.train={PAIRS}", ASKED, *SMALL)),
        ("trl_sft.sh", (f"data.train={PAIRS}", "data.columns={text: chosen, prompt: '', completion: ''}",
                        "training.batch_size=4", "model.lora.target_modules=all-linear")),
        ("open_r1_grpo.yaml", (f"data.train={STORIES}", "reward.functions=[repetition]", "rollout.engine=local",
                               "rollout.vllm_arguments=null", "rollout.num_generations=2", "training.batch_size=2",
                               "rollout.max_completion_length=6")),
    ],
)  # fmt: skip
def test_they_train(name: str, words: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out = tmp_path / "mine.yaml"
    assert main(["translate", str(CONFIGS / name), "-o", str(out), "--lossy"]) == 0
    local = (*HERE, "data.validation=0", "training.mixed_precision=no", "model.dtype=float32", "data.num_rows=40")
    run = train(out, tmp_path / "run", *local, "data.bad_rows=drop", "logging.num_completions=0", *words)
    assert len(lines(run / "metrics.jsonl")) == 2
    assert told(run / "outcome.json")["num_steps"] == 2

"""Command lines are taken apart, and what files beside a config say is read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from align.cli.main import main
from align.cli.translate import Wishes, drafted, read
from align.errors import Mistakes, UserError
from align.translate.command import of_script, take_apart
from align.translate.draft import Draft, Fate
from align.translate.written import lost


def value(text: str) -> Any:
    return json.loads(text) if text.lstrip("-")[:1].isdigit() else text


@pytest.mark.parametrize(
    ("line", "names", "processes", "flags"),
    [
        ("trl dpo --beta 0.1 --packing", ["trl", "dpo"], 0, {"beta": 0.1, "packing": True}),
        ("torchrun --nproc-per-node 4 --nnodes=2 a/dpo.py --top_k -1", ["a/dpo.py"], 8, {"top_k": -1}),
        ("accelerate launch --num_processes 8 --num_machines 2 x.py --no_bf16", ["x.py"], 8, {"bf16": False}),
        ("deepspeed --module openrlhf.cli.train_sft --adam_betas 0.9 0.95", ["openrlhf.cli.train_sft"], 0,
         {"adam_betas": [0.9, 0.95]}),
        ("ray job submit --address a -- python3 -m openrlhf.cli.train_rm --l2=0.1", ["openrlhf.cli.train_rm"], 0,
         {"l2": 0.1}),
        ("accelerate launch x.py --reward-funcs a b --temperature -0.5", ["x.py"], 0,
         {"reward_funcs": ["a", "b"], "temperature": -0.5}),
    ],
)  # fmt: skip
def test_a_command_is_taken_apart(line: str, names: list[str], processes: int, flags: dict[str, Any]):
    found = take_apart(line.split(), value)
    assert (found.names, found.processes, found.flags) == (names, processes, flags)


def test_a_config_and_flags_go_together_and_flags_have_the_last_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    Path("dpo.yaml").write_text("beta: 0.3\nlearning_rate: 1e-6\n")
    for words in ("trl dpo --config dpo.yaml --beta 0.5", "accelerate launch run_dpo.py dpo.yaml --beta=0.5"):
        name, values, command = read(words.split())
        assert (name, values) == ("dpo.yaml", {"beta": 0.5, "learning_rate": 1e-6})
        assert "dpo" in " ".join(command.names)


def test_a_file_of_rows_has_no_split_to_evaluate_on(tmp_path: Path):
    config = tmp_path / "dpo.yaml"
    config.write_text("model_name_or_path: a\nloss_type: sigmoid\ndataset_name: pairs.jsonl\neval_strategy: steps\n")
    path, values, command = read([str(config)])
    draft = drafted(path, values, command, Wishes())
    assert (draft.recipe["data.train"], draft.recipe["data.validation"]) == ("pairs.jsonl", 0.05)
    config.write_text(config.read_text().replace("pairs.jsonl", "owner/pairs"))
    path, values, command = read([str(config)])
    assert drafted(path, values, command, Wishes()).recipe["data.validation"] == "owner/pairs[test]"


def test_a_script_is_read_to_its_longest_command():
    script = "# python old.py --a 1 --b 2 --c 3\nexport A=1\npython dpo.py \\\n  --beta ${BETA:-0.2} \\\n  --lr 1\n"
    assert of_script(script) == ["python", "dpo.py", "--beta", "0.2", "--lr", "1"]
    with pytest.raises(UserError, match="is no command line"):
        of_script("python dpo.py --a 'open --b 2\n")


def translated(folder: Path, trainer: str = "dpo", **values: Any) -> Draft:
    (folder / "mine.yaml").write_text(json.dumps(values))
    name, found, command = read([str(folder / "mine.yaml")])
    return drafted(name, found, command, Wishes(trainer=trainer if "stage" not in values else ""))


def test_data_sets_of_llama_factory_are_looked_up_beside_the_config(tmp_path: Path):
    (tmp_path / "data").mkdir()
    columns = {"prompt": "ask", "query": "more", "chosen": "good", "rejected": "bad", "system": "sys"}
    (tmp_path / "data" / "dataset_info.json").write_text(json.dumps({
        "mine": {"file_name": "mine.json", "ranking": True, "columns": columns},
        "hub": {"hf_hub_url": "a/b", "subset": "c", "formatting": "sharegpt", "ranking": True},
    }))  # fmt: skip
    common = {"stage": "dpo", "finetuning_type": "full", "model_name_or_path": "gpt2", "cutoff_len": 64}
    draft = translated(tmp_path, **common, dataset="mine,hub")
    mine, hub = draft.recipe["data.train"]
    assert mine["source"] == str(tmp_path / "data" / "mine.json")
    assert mine["columns"] == {"prompt": "{ask}\n{more}", "chosen": "good", "rejected": "bad", "system": "sys"}
    assert hub == {"source": "a/b:c", "columns": {"prompt": "conversations"}}
    assert draft.recipe["data.mixture"] == "rows"
    assert [a.key for a in lost(translated(tmp_path, **common, dataset="other"))] == ["dataset"]


def test_rows_that_nobody_names_are_missing(tmp_path: Path):
    draft = translated(tmp_path, model_name_or_path="gpt2", beta=0.1, eval_strategy="steps", eval_steps=10)
    assert "data.train" not in draft.recipe
    assert draft.recipe["data.validation"] == 0.05  # a share, so that there is something to evaluate on


def test_mixtures_of_trl_are_sources(tmp_path: Path):
    parts = [{"path": "a/b", "split": "train_prefs"}, {"path": "json", "data_files": "mine.jsonl"}]
    draft = translated(tmp_path, model_name_or_path="gpt2", beta=0.1, datasets=parts, test_split_size=0.1)
    assert draft.recipe["data.train"] == [{"source": "a/b[train_prefs]"}, {"source": "mine.jsonl"}]
    assert draft.recipe["data.validation"] == 0.1
    assert not lost(draft)
    shares = [{"path": "a/b", "fraction": 0.3}, {"path": "c/d", "fraction": 0.7}]
    draft = translated(tmp_path, model_name_or_path="gpt2", beta=0.1, datasets=shares)
    assert [a.key for a in lost(draft)] == ["datasets"]


def test_a_revision_stands_behind_the_name(tmp_path: Path):
    hub = {"push_to_hub": True, "hub_model_id": "us/mine", "hub_private_repo": True}
    draft = translated(tmp_path, model_name_or_path="us/one", model_revision="v1", beta=0.1, **hub)
    assert draft.recipe["model.model_name_or_path"] == "us/one@v1"
    assert draft.launch.after == ["hf upload us/mine runs/NAME/final --private"]
    assert not lost(draft)
    draft = translated(tmp_path, model_name_or_path="us/one", model_revision="main", beta=0.1)
    assert draft.recipe["model.model_name_or_path"] == "us/one"


def test_a_script_knows_its_variables(tmp_path: Path):
    script = "MODEL=us/one  # ours\nexport RUN=\"runs/$MODEL\"\nN=4\ntorchrun --nproc-per-node ${N:-8} x.py \\\n"
    script += "--model_name_or_path $MODEL --output_dir ${RUN}-2 --seed ${SEED:-3} --beta 0.2 \"$@\"\nMODEL=later\n"
    command = take_apart(of_script(script), value)
    found = {"model_name_or_path": "us/one", "output_dir": "runs/us/one-2", "seed": 3, "beta": 0.2}
    assert (command.flags, command.processes) == (found, 4)
    (tmp_path / "x.sh").write_text("python dpo.py --a $1 --model_name_or_path $MODEL/a --output_dir $(date)\n")
    with pytest.raises(Mistakes) as told:
        read([str(tmp_path / "x.sh")])
    assert [message.split(": ")[1:3] for message in told.value.messages] == [
        ["a", "$1"], ["model_name_or_path", "$MODEL"], ["output_dir", "$(date)"]
    ]  # fmt: skip


def test_a_script_of_python_runs_by_another_import(tmp_path: Path):
    (tmp_path / "dpo.py").write_text("import trl\n")
    with pytest.raises(UserError, match=r"is a Python script\..*`from align\.trl import .*`align translate -- "):
        read([str(tmp_path / "dpo.py")])


def test_rows_of_a_loader_have_no_split_of_its_name(tmp_path: Path):
    files = [{"path": "json", "data_files": "mine.jsonl"}]
    for named in ({"dataset_name": "json"}, {"dataset_name": "a/b"}, {}):  # TRL reads `datasets` and no dataset_name
        draft = translated(tmp_path, model_name_or_path="gpt2", datasets=files, eval_strategy="steps", **named)
        assert (draft.recipe["data.train"], draft.recipe["data.validation"]) == ("mine.jsonl", 0.05)


@pytest.mark.parametrize("names", ["none", ["none"], [], None])
def test_no_tracker_may_be_said_as_transformers_says_it(tmp_path: Path, names: Any):
    draft = translated(tmp_path, model_name_or_path="gpt2", beta=0.1, report_to=names)
    assert draft.recipe["logging.report_to"] == []
    assert not lost(draft)


def test_a_misspelt_word_is_told_with_the_nearest(tmp_path: Path):
    draft = translated(tmp_path, model_name_or_path="gpt2", beta=0.1, learning_rte=1e-6, loss_type="sigmod")
    said = {account.key: account.words for account in lost(draft)}
    assert said["learning_rte"].endswith("known here. Did you mean learning_rate?")
    assert "sigmoid, hinge, ipo, robust are. Did you mean sigmoid?" in said["loss_type"]


def test_what_a_model_is_made_with_is_read_as_the_configs_own_keys(tmp_path: Path):
    made = {"attn_implementation": "eager", "torch_dtype": "bfloat16", "revision": "v2", "device_map": "auto"}
    draft = translated(tmp_path, model_name_or_path="us/one", beta=0.1, model_init_kwargs=made, logging_dir="logs")
    found = {key: draft.recipe.get(f"model.{key}") for key in ("attn_implementation", "dtype", "model_name_or_path")}
    assert found == {"attn_implementation": "eager", "dtype": "bfloat16", "model_name_or_path": "us/one@v2"}
    assert not lost(draft)
    draft = translated(tmp_path, model_name_or_path="us/one", beta=0.1, model_init_kwargs=made | {"max_memory": {}})
    assert [account.words.split(":")[0] for account in lost(draft)] == ["max_memory"]


REWARDS: dict[str, Any] = {
    "model_name_or_path": "gpt2", "dataset_name": "rows.jsonl", "per_device_train_batch_size": 8,
    "reward_funcs": ["mine:first", "mine:second"],
}  # fmt: skip


@pytest.mark.parametrize(
    ("more", "functions"),
    [
        ({"reward_weights": [2.0, 1.0]}, [{"name": "mine:first", "weight": 2.0}, "mine:second"]),
        (
            {"reward_model_name_or_path": "a/rm", "reward_weights": [0.5, 1.0, 2.0]},
            [{"name": "learned", "settings": {"model": "a/rm"}, "weight": 0.5}, "mine:first",
             {"name": "mine:second", "weight": 2.0}],
        ),
    ],
)  # fmt: skip
def test_each_reward_has_its_own_weight(more: dict[str, Any], functions: list[Any], tmp_path: Path):
    """TRL's script has the model before the functions."""
    draft = translated(tmp_path, "grpo", **REWARDS, **more)
    assert draft.recipe["reward.functions"] == functions
    assert not lost(draft)


@pytest.mark.parametrize(
    ("trainer", "values", "key"),
    [
        ("grpo", {**REWARDS, "reward_weights": [2.0]}, "reward_weights"),
        ("grpo", {**REWARDS, "reward_weights": [1.0, 2.0, 3.0]}, "reward_weights"),
        ("grpo", {**REWARDS, "shuffle_dataset": False}, "shuffle_dataset"),
        ("sft", {"dataset_mixer": {"a/b": 1.0, "c/d": 1.0}, "dataset_splits": ["train"], "dataset_configs": ["x"]},
         "dataset_configs"),
    ],
)  # fmt: skip
def test_lists_of_other_lengths_and_an_order_of_rows_are_not_passed_over(
    trainer: str, values: dict[str, Any], key: str, tmp_path: Path
):
    draft = translated(tmp_path, trainer, **values)
    assert [a.key for a in lost(draft)] == [key]


def test_a_printed_recipe_is_looked_at_as_a_written_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "sft.yaml").write_text(
        "model_name_or_path: a/b\ndataset_name: a/b\nlearning_rate: '2e-5'\nlr_scheduler_type: reduce_lr_on_plateau\n"
    )
    assert main(["translate", str(tmp_path / "sft.yaml"), "--trainer", "sft"]) == 0
    said = capsys.readouterr()
    assert "  learning_rate: 2.0e-05\n" in said.out
    assert "`align check RECIPE` will want these mended:\n  RECIPE: optim.lr_scheduler_type: no such" in said.err


def test_what_is_asked_of_the_order_of_rows_is_lost_and_how_they_are_laid_out_is_not(tmp_path: Path):
    shuffled = {"stage": "sft", "model_name_or_path": "a/b", "finetuning_type": "full", "disable_shuffling": True}
    assert "disable_shuffling" in {a.key for a in lost(translated(tmp_path, **shuffled))}
    data = [{"path": "a/b", "type": "chat_template"}]
    flat = translated(
        tmp_path, "", base_model="a/b", datasets=data, micro_batch_size=2, sequence_len=64, batch_flattening=True
    )
    assert "training.layout" not in flat.recipe
    assert not lost(flat)


OPENRLHF = (
    "python -m openrlhf.cli.train_ppo_ray --pretrain a/m --reward_pretrain a/rm --prompt_data d/p "
    "--train_batch_size 128 --rollout_batch_size 1024 --n_samples_per_prompt 4 --prompt_max_len 64 "
    "--generate_max_len 64 --critic_learning_rate 9e-6 --critic_pretrain a/rm --advantage_estimator"
)


@pytest.mark.parametrize(
    ("words", "gone"),
    [
        ("rloo --init_kl_coef 0.01", []),
        ("rloo --init_kl_coef 0.01 --kl_estimator k3", ["kl_estimator"]),
        ("dr_grpo --init_kl_coef 0", []),
        ("dr_grpo --init_kl_coef 0.01", ["init_kl_coef"]),
        ("group_norm --init_kl_coef 0.01 --use_kl_loss --kl_estimator k3", []),
        ("group_norm --init_kl_coef 0.01 --use_kl_loss", ["kl_estimator"]),
    ],
)
def test_a_divergence_that_a_method_lacks_is_told_and_no_critic_is_written_for_one_without(
    words: str, gone: list[str]
):
    draft = drafted(*read(f"{OPENRLHF} {words}".split()), Wishes())
    assert [a.key for a in lost(draft)] == gone
    assert not [key for key in draft.recipe if key.startswith("model.critic")]


def test_what_a_later_rule_needs_is_not_told_as_without_meaning():
    line = "deepspeed --module openrlhf.cli.train_dpo --pretrain a/m --dataset d/x --train_batch_size 64"
    draft = drafted(*read([*line.split(), "--lora_rank", "8", "--lora_alpha", "16"]), Wishes())
    assert draft.recipe["model.lora.r"] == 8
    assert {draft.accounts[key].fate for key in ("lora_rank", "lora_alpha")} == {Fate.HERE}

"""Files, names and machines that mean ill: each ends a command with one message and its exit code, soon."""

import json
import os
import resource
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from mistakes import RECIPE, STORIES, Told

from align.cli.main import main
from align.system.machine import unwritable
from align.system.trees import DEEPEST, Shallow, bounded

LAUGHS = "a0: &a0 [lol]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 10))
YAML = [
    ("x: " + "[" * 20_000, "line 1, column 105: nested more than 100 deep"),
    ("\n".join("  " * i + "a:" for i in range(300)), "nested more than 100 deep"),
    (RECIPE + "x: &a [*a]\n", "does an alias (*) stand inside of its own anchor (&)?"),
    ("method: &m {name: dpo, again: *m}\n", "does an alias (*) stand inside of its own anchor (&)?"),
    (LAUGHS + RECIPE, "more than 100,000 values, where each alias (*) is written out"),
    (RECIPE + "? [a]\n: b\n", "line 8, column 3: found unhashable key"),
    (RECIPE + "x: !!python/object/apply:os.system [ls]\n", "a recipe has no values of the kind tag:yaml.org"),
    (RECIPE.replace("rows.jsonl", '"rows\\0.jsonl"'), "data.train: holds a NUL character"),
    (RECIPE + '"a\\0b": 1\n', "holds a NUL character"),
]


@pytest.mark.parametrize(("text", "finding"), YAML, ids=[finding[:40] for _, finding in YAML])
def test_yaml_that_has_no_end_is_told(text: str, finding: str, told: Told):
    Path("hostile.yaml").write_text(text)
    assert finding in told(recipe="hostile.yaml")


def test_values_are_bounded_with_aliases_written_out():
    whole = yaml.load("a: &a [1, 2]\nb: [*a, *a]\n", Shallow)
    assert bounded(whole, 16) is whole  # 1 + 2 keys, 1 + 2 twice, and what b lists: 1 + 2, each written out again
    with pytest.raises(ValueError, match="more than 10 values"):
        bounded(whole, 10)
    deep: list[Any] = []
    for _ in range(DEEPEST + 1):
        deep = [deep]
    with pytest.raises(ValueError, match="nested more than"):
        bounded(deep)


def test_a_report_of_a_hostile_run_folder_has_an_end(capsys: pytest.CaptureFixture[str]):
    Path("run").mkdir()
    for text in (LAUGHS, "a: &a [*a]", "[" * 20_000):
        Path("run/recipe.yaml").write_text(text)
        Path("run/data.json").write_text("[" * 900 + "]" * 900)
        assert main(["report", "run"]) == 0
        page = Path("run/report.html").read_text()
        assert "recipe.yaml is not valid YAML" in page
        assert "data.json is not valid JSON" in page


def test_nul_in_a_name_on_the_command_line(capsys: pytest.CaptureFixture[str]):
    for words in (["check", "a\0b"], ["check", "dpo", "training.output_dir=a\0b"], ["report", "a\0"]):
        assert main(words) == 2
        assert "Traceback" not in capsys.readouterr().err


# ---- folders of models ----------------------------------------------------------------------------------------------


def changed(**keys: Any) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        path.write_text(json.dumps(json.loads(path.read_text()) | keys))

    return change


def replaced(text: str) -> Callable[[Path], None]:
    def replace(path: Path) -> None:
        path.write_text(text)

    return replace


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


CONFIGS = [
    ("config.json", replaced("[1]"), "config.json: holds no JSON object but list"),
    ("config.json", replaced("null"), "config.json: holds no JSON object but NoneType"),
    ("config.json", replaced("[" * 100_000), "config.json is not valid JSON"),
    ("config.json", a_folder, "config.json"),
    ("config.json", changed(hidden_size="64"), "hidden_size: found the text '64'; expected a whole number from 1 to"),
    ("config.json", changed(hidden_size=[64]), "hidden_size: found a list of 1; expected a whole number"),
    ("config.json", changed(hidden_size=float("nan")), "hidden_size: found nan; expected a whole number"),
    ("config.json", changed(vocab_size=10**30), "vocab_size: found 1000000000000000000000000000000; expected"),
    ("config.json", changed(num_hidden_layers=10**9), "num_hidden_layers: found 1000000000; expected a whole number"),
    ("config.json", changed(num_attention_heads=0), "num_attention_heads: found 0; expected a whole number"),
    ("config.json", changed(max_position_embeddings=True), "max_position_embeddings: found true; expected"),
    ("config.json", changed(text_config=5), "text_config: found 5; expected the language model's own config"),
    ("config.json", changed(text_config={}), "transformers refuses it: "),
    ("config.json", changed(num_attention_heads=7), "not a multiple of the number of attention heads"),
    ("config.json", changed(rope_scaling={"rope_type": "no"}), "cannot be loaded: KeyError: 'no'"),
    ("config.json", changed(hidden_act="nope"), "cannot be loaded: KeyError: 'nope'"),
    ("config.json", changed(hidden_act=5), "expected str, got int"),
    ("config.json", changed(dtype="float99"), "has no attribute 'float99'"),
    ("config.json", changed(pad_token_id=10**9), "Padding_idx must be within num_embeddings"),
    ("config.json", changed(quantization_config="x"), "its tokenizer cannot be loaded"),
    ("generation_config.json", replaced("[]"), "generation_config.json: holds no JSON object"),
    ("generation_config.json", replaced('{"eos_token_id": {"a": 1}}'), "expected the id of a token, or a list of them"),
    ("tokenizer.json", replaced("{}"), "its tokenizer cannot be loaded"),
    ("tokenizer.json", a_folder, "tokenizer"),
    ("tokenizer_config.json", replaced('{"model_max_length": "x", "tokenizer_class": 5}'), "tokenizer"),
]


@pytest.mark.parametrize(("name", "change", "finding"), CONFIGS, ids=[f"{n}-{f[-30:]}" for n, _, f in CONFIGS])
def test_an_odd_file_of_a_model_is_told(name: str, change: Callable[[Path], None], finding: str, told: Told):
    folder = shutil.copytree(STORIES, "model")
    Path(folder, name).touch()
    change(Path(folder, name))
    assert finding in told("model.model_name_or_path=model", "training.max_steps=1")


ADAPTER = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj"]}
ADAPTERS = [
    ("[1]", "adapter_config.json: holds no JSON object but list"),
    ("{", "adapter_config.json is not valid JSON"),
    (ADAPTER | {"base_model_name_or_path": 5}, "the adapter's base model is gone"),
    (ADAPTER | {"base_model_name_or_path": "a\0b"}, "the adapter's base model is gone"),
    (ADAPTER | {"r": "x"}, "its adapter does not fit"),
    (ADAPTER | {"r": [4]}, "its adapter does not fit"),
    (ADAPTER | {"peft_type": 5}, "its adapter does not fit"),
    (ADAPTER | {"target_modules": 5}, "its adapter does not fit"),
    (ADAPTER | {"trainable_token_indices": 5}, "trainable_token_indices: neither a list of ids, nor lists by name"),
    ({"peft_type": "LORA"}, "names no base_model_name_or_path"),
]


@pytest.mark.parametrize(("written", "finding"), ADAPTERS, ids=[f"{str(w)[-40:]}" for w, _ in ADAPTERS])
def test_an_odd_adapter_is_told(written: Any, finding: str, told: Told):
    adapter = Path("adapter")
    adapter.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(STORIES / name, adapter)
    known = {"base_model_name_or_path": str(STORIES)} if isinstance(written, dict) and len(written) > 1 else {}
    (adapter / "adapter_config.json").write_text(written if isinstance(written, str) else json.dumps(known | written))
    shutil.copy(STORIES / "model.safetensors", adapter / "adapter_model.safetensors")
    assert finding in told("model.model_name_or_path=adapter", "training.max_steps=1")


# ---- machines -------------------------------------------------------------------------------------------------------


def test_too_many_open_files_is_told(capsys: pytest.CaptureFixture[str]):
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    os.close(free := os.open(os.devnull, os.O_RDONLY))  # the lowest number that is free
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, before[1]))
    try:
        code = main(["check", "mine.yaml"])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert code == 1
    assert "align: too many open files: " in (error := capsys.readouterr().err)
    assert "Traceback" not in error


@pytest.mark.parametrize("out", ["/proc/nowhere/out", "rows.jsonl/out", f"{'a' * 300}"])
def test_an_export_to_where_nothing_can_be_written_is_told_before_a_model_is_loaded(
    out: str, capsys: pytest.CaptureFixture[str]
):
    assert main(["export", str(STORIES), out]) == 2
    assert "cannot be written" in (error := capsys.readouterr().err) or "name too long" in error
    assert unwritable(Path(out))
    assert not unwritable(Path("deep/er/out"))
    assert not Path("deep").exists()

"""Whatever a run reads belongs to what it is: an assembled run is watched, and each of its inputs is changed.

A file counts that the run opens, or that stands in a folder which its recipe names. What the operating system, the
libraries and this package hold is told by their versions; the caches are held against their own sums.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from small_runs import train, write_recipe, write_rows

import align
from align.assets import asset
from align.data.prepare import default_cache, prepare
from align.errors import Mistakes
from align.models.load import load_policy
from align.models.save import fingerprint
from align.models.settings import ModelSection
from align.models.sources import CONFIGS
from align.models.tokenizer import load_tokenizer
from align.recipe.load import Recipe, load_recipe
from align.run.identity import inputs_of
from align.runfolder.environment import PRECISION, VARIABLES, arithmetic, differences, environment
from align.runfolder.folder import FREE, check_resume

CODE = {
    "my_method.py": "from align.methods.rloo import RLOO\n\n\nclass Mine(RLOO):\n    name = 'mine'\n",
    "my_reward.py": "from my_help.words import count\n\n\ndef score(prompts, completions, **columns):\n"
    "    import my_late\n    return [my_late.ONE * count(text) for text in completions]\n\n\n"
    "score.inputs = [__file__.replace('my_reward.py', 'declared')]\n",
    "my_class.py": "from pathlib import Path\n\n\nclass Listed:\n    def __init__(self, words):\n"
    "        self.words = Path(words).read_text().split()\n\n"
    "    def __call__(self, prompts, completions, **columns):\n"
    "        return [sum(text.count(w) for w in self.words) for text in completions]\n",
    "my_late.py": "ONE = 1.0\n",
    "my_judge.py": "def better(prompt, a, b):\n    return 0.5 + 0.5 * ((len(a) > len(b)) - (len(a) < len(b)))\n",
    "more.txt": "one\n",
    "my_help/__init__.py": "",
    "my_help/words.py": "def count(text):\n    return text.count('a')\n",
    "my_tool.py": "def ask(prompt, text, columns):\n    return ' And?' if text.count('And?') < 1 else None\n",
    "my_steps.py": "def cut(text):\n    return [0, len(text)]\n",
    "declared/list.txt": "one two\n",
    "words.txt": "the was\n",
    "template.jinja": "{% for m in messages %}{{ m.content }}{% endfor %}",
}
UNREAD = ("LICENSE", "README.md")  # of model folders; no run opens them


@pytest.fixture
def inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with everything that a run can be made of."""
    folder = tmp_path / "inputs"
    for name, text in CODE.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    for name in ("model", "tokenizer", "reference", "critic"):
        shutil.copytree(asset("asset:stories260k"), folder / name)
    (folder / "tokenizer/model.safetensors").unlink()
    section = ModelSection(model_name_or_path="asset:stories260k")
    tokenizer = load_tokenizer(section, "scalar")
    load_policy(section, tokenizer, "scalar", Path()).save_pretrained(folder / "judge")
    tokenizer.save_pretrained(folder / "judge")
    rows = [{"prompt": [{"role": "user", "content": f"Once there were {i}"}], "answer": i} for i in range(9)]
    write_rows(folder / "rows.jsonl", rows)
    monkeypatch.syspath_prepend(str(folder))
    for name in CODE:
        monkeypatch.delitem(sys.modules, name.removesuffix(".py").replace("/", "."), raising=False)
    return folder


def recipe_of(inputs: Path, out: Path) -> Path:
    rewards: list[Any] = [
        "my_reward:score",
        {"name": "my_class:Listed", "settings": {"words": str(inputs / "words.txt")}},
        {"name": "learned", "settings": {"model": str(inputs / "judge")}},
        {"name": "win_rate", "settings": {"function": "my_judge:better"}},
        {"name": "win_rate", "settings": {"scores": "my_class:Listed", "settings": {"words": f"{inputs}/more.txt"}}},
    ]
    made = {
        "method": {"name": "my_method:Mine", "kl_coef": 0.1},
        "model": {"model_name_or_path": str(inputs / "model"), "tokenizer_name_or_path": str(inputs / "tokenizer"),
                  "ref_model_name_or_path": str(inputs / "reference")},
        "data": {"train": str(inputs / "rows.jsonl"), "max_length": 64,
                 "chat_template": str(inputs / "template.jinja")},
        "rollout": {"num_generations": 2, "max_completion_length": 6, "environment": "my_tool:ask"},
        "reward": {"functions": rewards},
        "training": {"batch_size": 2, "max_steps": 1, "output_dir": str(out)},
        "logging": {"num_completions": 0},
    }  # fmt: skip
    return write_recipe(inputs.parent / "mine.yaml", made)


OPENED: list[str] = []
WATCHING: list[bool] = []


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if WATCHING and event == "open" and isinstance(arguments[0], str | bytes | os.PathLike):
        flags = arguments[2] if isinstance(arguments[2], int) else 0
        if not flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            OPENED.append(os.fsdecode(arguments[0]))


sys.addaudithook(_watch)


@contextmanager
def watched() -> Iterator[None]:
    """Every file that is opened for reading goes into OPENED. A hook cannot be taken away, so it is switched off."""
    OPENED.clear()
    WATCHING.append(True)
    try:
        yield
    finally:
        WATCHING.clear()


def changed(file: Path) -> bytes:
    content = file.read_bytes()
    if file.name in CONFIGS:  # white space does not count there
        return json.dumps(json.loads(content) | {"changed": True}).encode()
    if file.suffix == ".safetensors":
        return content[:-1] + bytes([content[-1] ^ 1])
    if file.suffix == ".jsonl":
        return content + content.splitlines(keepends=True)[0]
    return content + {".py": b"# changed\n", ".json": b"\n"}.get(file.suffix, b"x")


def whole(recipe: Recipe) -> dict[str, Any]:
    """All of an identity that files decide, without loading a model."""
    tokenizer = load_tokenizer(recipe.model)
    needs = recipe.method.needs()
    splits = prepare(recipe.data, needs.batch.kind, needs.numbers(), tokenizer, default_cache())
    names = (recipe.model.model_name_or_path, recipe.model.ref_model_name_or_path)
    weights = "".join(fingerprint(name) for name in names)
    return {"format": 2, "data": splits.train.fingerprint, "weights": weights, "inputs": inputs_of(recipe, Path(), 9)}


def libraries() -> list[Path]:
    found = [sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    return [Path(p).resolve() for p in (*found, *Path(torch.__file__).parents[1:2], *Path(align.__file__).parents[0:1])]


def test_every_file_that_a_run_reads_is_part_of_what_it_is(inputs: Path, tmp_path: Path):
    out = tmp_path / "run"
    path = recipe_of(inputs, out)
    with watched():
        train(path, out)
    opened = {Path(name).resolve() for name in OPENED}
    system = [Path(name) for name in ("/proc", "/sys", "/dev", "/etc", "/usr")]
    ours = [out.resolve(), default_cache().resolve(), path.resolve(), Path(__file__).parents[1]]
    known = [*libraries(), *system, *ours]
    strangers = [p for p in opened if not any(p.is_relative_to(k) for k in (*known, inputs.resolve()))]
    assert not [p for p in strangers if p.is_file() and ".git" not in p.parts], "what else does a run depend on?"
    files = [p for p in inputs.rglob("*") if p.is_file() and p.suffix != ".pyc" and p.name not in UNREAD]
    assert {p for p in opened if p.is_relative_to(inputs.resolve()) and p.suffix != ".pyc"} <= {*files, *dirs(inputs)}
    before = whole(recipe := load_recipe(path))
    for file in [f for f in files if "critic" not in f.parts and f.name != "my_steps.py"]:
        content = file.read_bytes()
        file.write_bytes(changed(file))
        with pytest.raises(Mistakes, match=r"resume: (data|weights|inputs)") as refused:
            check_resume(before, whole(recipe))
        assert len(refused.value.messages) <= 2, f"{file}: {refused.value.messages}"
        file.write_bytes(content)
    assert check_resume(before, whole(recipe)) == []


def dirs(folder: Path) -> list[Path]:
    return [p.resolve() for p in (folder, *folder.rglob("*")) if p.is_dir()]


def test_a_recording_a_critic_and_a_segmenter_are_part_of_it_too(inputs: Path, tmp_path: Path):
    record = tmp_path / "recorded/rollouts"
    record.mkdir(parents=True)
    for number in range(4):
        (record / f"{number:06d}.jsonl").write_text("{}\n")
    words = (
        f"model.model_name_or_path={inputs / 'model'}", f"rollout.replay={tmp_path / 'recorded'}",
        f"model.critic={{model_name_or_path: {inputs / 'critic'}}}", "training.max_steps=2",
    )  # fmt: skip
    recipe = load_recipe("ppo", [*words, "rollout.num_iterations=1", "rollout.num_prompts=0"])
    before = inputs_of(recipe, Path(), 9)
    assert set(before["critic"]) > {"config.json", "tokenizer.json"}
    assert list(before["replay"]) == ["000000.jsonl", "000001.jsonl"], "later ones are not learned from"
    (record / "000001.jsonl").write_text("{} \n")
    assert inputs_of(recipe, Path(), 9)["replay"] != before["replay"]
    assert list(inputs_of(load_recipe("vineppo", ["rollout.steps=my_steps:cut"]), Path(), 9)["steps"]) == ["my_steps"]


@pytest.mark.parametrize("name", ["dpo", "grpo"])
def test_every_key_of_a_recipe_is_part_of_it_or_known_to_be_free(name: str):
    recipe = load_recipe(name).to_dict()
    saved = {"format": 2, "recipe": recipe}
    keys = list(leaves(recipe))
    for key in keys:
        free = any(".".join(key) == f or ".".join(key).startswith(f"{f}.") for f in FREE)
        now = json.loads(json.dumps(saved))
        inside = now["recipe"]
        for part in key[:-1]:
            inside = inside[part]
        inside[key[-1]] = "something else"
        if free:
            assert check_resume(saved, now) == []
        else:
            with pytest.raises(Mistakes, match=rf"resume: {'.'.join(key)}: the saved run has"):
                check_resume(saved, now)
    sections = {key[0] for key in keys}
    for section in sections & {"model", "data", "optim", "training", "rollout", "reward"}:
        there = set(asdict(getattr(load_recipe(name), section)))
        assert there - {"num_train_epochs"} <= set(recipe[section]), "no key is left out of the resolved recipe"


def leaves(value: Any, above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from leaves(inner, (*above, key))
    else:
        yield above


@pytest.mark.parametrize("name", PRECISION)
def test_what_changes_the_precision_of_arithmetic_is_part_of_it(name: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv(name, raising=False)
    before = {"format": 2, "arithmetic": arithmetic(None)}
    monkeypatch.setenv(name, "BF16")
    with pytest.raises(Mistakes, match=rf"resume: arithmetic\.{name}: the saved run has none, this one 'BF16'"):
        check_resume(before, {"format": 2, "arithmetic": arithmetic(None)})
    with pytest.raises(Mistakes, match=r"resume: arithmetic\.autocast: the saved run has 'none', this one 'bfloat16'"):
        check_resume(before, {"format": 2, "arithmetic": arithmetic(torch.bfloat16)})


@pytest.mark.parametrize("name", VARIABLES)
def test_what_may_change_the_last_bits_is_told(name: str, monkeypatch: pytest.MonkeyPatch):
    def now() -> dict[str, Any]:
        return environment(world_size=1, sharding="none", data="", weights="", commits={})

    monkeypatch.delenv(name, raising=False)
    before = now()
    assert differences(before, now()) == []
    monkeypatch.setenv(name, "1")
    assert differences(before, now()) == [f"{name}: was None, is 1"]

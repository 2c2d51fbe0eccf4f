"""What a user gets wrong, by the real command: one message that names place, finding and cure; nothing is lost.

Two ranks with different data and a world size that did not come true are in tests/distributed; an output folder in use
by a live run is in tests/test_kill.py.
"""

from __future__ import annotations

import gzip
import json
import os
import resource
import shutil
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from align import assets
from align.cli import main

STORIES = Path(assets.__file__).parent / "stories260k"
ROW = {"prompt": "What is two and two?", "chosen": "Four, I think.", "rejected": "Work it out yourself."}
ASKED = {"role": "user", "content": "Hello?"}
ANSWERED = {"role": "assistant", "content": "Good day."}
RECIPE = """
method: {name: dpo}
model: {model_name_or_path: "asset:stories260k"}
data: {train: rows.jsonl, max_length: 64}
optim: {learning_rate: 1.0e-4, lr_scheduler_type: constant}
training: {batch_size: 4, max_steps: 2, layout: padded, save_steps: 1, output_dir: run}
logging: {num_completions: 0}
"""
Told = Callable[..., str]


def dump(path: str, *rows: Any) -> str:
    Path(path).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def pairs(count: int, **changes: Any) -> list[dict[str, Any]]:
    return [{**ROW, "prompt": f"What is {i} and two?", **changes} for i in range(count)]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a recipe and rows that are right."""
    monkeypatch.chdir(tmp_path)
    dump("rows.jsonl", *pairs(8))
    Path("mine.yaml").write_text(RECIPE)
    return tmp_path


@pytest.fixture
def told(capsys: pytest.CaptureFixture[str]) -> Told:
    """Trains, expects an exit code, and returns the one message."""

    def told(*words: str, code: int = 2, recipe: str = "mine.yaml") -> str:
        capsys.readouterr()
        assert main(["train", recipe, *words]) == code
        message = capsys.readouterr().err
        assert "Traceback" not in message
        assert message.count("align:") == (1 if code else 0)
        return message

    return told


def assert_nothing_was_begun() -> None:
    """The folder may have been locked, and is free for the next try."""
    left = [p.name for p in Path("run").iterdir()] if Path("run").is_dir() else []
    assert set(left) <= {".lock", "init"}


# ---- the recipe -----------------------------------------------------------------------------------------------------

WRONG_WORDS = [
    ("method.bta=1", "command line: method.bta: no such key; dpo has beta. Did you mean beta?"),
    ("training.num_train_epochs=1", "training.max_steps: conflicts with num_train_epochs: 1.0; keep one of them"),
    ("training.batch_size=0", "training.batch_size: found 0; expected 1 or more"),
    ("training.batch_size=-4", "training.batch_size: found -4; expected 1 or more"),
    ("training.batch_size=1e3", "training.batch_size: found 1000.0; expected a whole number"),
    ("optim.learning_rate=-1e-5", "optim.learning_rate: found -1e-05; expected more than 0"),
    ("optim.learning_rate=.inf", "optim.learning_rate: found inf; expected a finite number"),
    ("optim.learning_rate=1e-5x", "optim.learning_rate: found the text '1e-5x'; expected a number"),
    ("data.validation=1.5", "data.validation: found 1.5; expected a share, 0 or more and less than 1"),
    ("training.eval_steps=2", "training.eval_steps: needs data.validation: a source, or a share"),
    (f"training.seed={'9' * 30}", "training.seed: found a number of 30 digits; expected less than 2^63"),
    (f"training.seed={'9' * 5000}", "training.seed: the value is no readable YAML: Exceeds the limit"),
    ("training.seed", "command line: training.seed: not of the form section.key=value, such as training.seed=1"),
    ("rollout={}", "rollout: not in this release, which trains on rows that are there before"),
    ("reward.shape=[]", "reward: not in this release"),
    ("model.lora={target_modules: [q_prj]}", "target_modules: ['q_prj'] matches nothing in LlamaForCausalLM; it has"),
    ("training.metric_for_best_model=acuracy", "no such metric: acuracy; dpo reports loss, accuracy, margin"),
    ("training.output_dir=mine.yaml", "training.output_dir: mine.yaml: cannot be written: "),
    ("training.output_dir=mine.yaml/run", "training.output_dir: mine.yaml/run: cannot be written: "),
    ("training.output_dir=/proc/nowhere/run", "training.output_dir: /proc/nowhere/run: cannot be written: "),
]  # fmt: skip


@pytest.mark.parametrize(("word", "finding"), WRONG_WORDS, ids=[w[:40] for w, _ in WRONG_WORDS])
def test_a_wrong_word_is_told(word: str, finding: str, told: Told):
    message = told(word)
    assert finding in message
    assert "9" * 60 not in message
    assert_nothing_was_begun()


@pytest.mark.parametrize(
    ("text", "finding"),
    [
        ("method: {name: dpo\nmodel: x\n", "wrong.yaml: no readable YAML: line 2, column 6: expected ',' or '}'"),
        ("method:\n\tname: dpo\n", "wrong.yaml: no readable YAML: line 2, column 1: found character '\\t'"),
        (RECIPE + "training: {seed: 1}\n", "wrong.yaml: training: stands twice, in lines 6 and 8; keep one"),
        (RECIPE + "rollout: {}\nreward: {}\n", "a reward is learned from pairs by reward_model".capitalize()),
        (RECIPE + "# caf\xe9\n", "wrong.yaml: no readable YAML: line 8: byte 0xe9 is not UTF-8"),
    ],
)
def test_a_wrong_file_is_told_with_its_line(text: str, finding: str, told: Told):
    Path("wrong.yaml").write_text(text, encoding="latin-1")
    assert finding in told(recipe="wrong.yaml")
    assert_nothing_was_begun()


def test_a_recipe_that_is_not_there_or_a_folder(told: Told):
    assert "Did you mean dpo?" in told(recipe="dppo")
    Path("folder").mkdir()
    assert "folder: a folder without recipe.yaml" in told(recipe="folder")


# ---- the data -------------------------------------------------------------------------------------------------------


def test_rows_that_are_not_there(told: Told):
    assert "data.train: row.jsonl: no such file. Did you mean rows.jsonl?" in told("data.train=row.jsonl")
    message = told("data.train=asset:polite_pairs/trian.jsonl")
    assert "Did you mean asset:polite_pairs/train.jsonl?" in message
    assert "tokenizer_config" not in message, "a model's files are no data sets"
    Path("folder.jsonl").mkdir()
    message = told("data.train=folder.jsonl")
    assert "folder.jsonl: this folder was not made by datasets.save_to_disk; accepted: FILE" in message
    Path("empty.jsonl").touch()
    assert "data.train: empty.jsonl: the data set is empty" in told("data.train=empty.jsonl")
    Path("empty.json").write_text("[]")
    assert "data.train: empty.json: the data set is empty" in told("data.train=empty.json")
    assert_nothing_was_begun()


BAD_ROWS = [
    ("dpo", {"prompt": "a", "rejected": "b"},
     "no `chosen`; the row has prompt, rejected. Map one of them with data.columns.chosen"),
    ("dpo", {"prompt": "a", "chosen": "b", "rejected": "b"},
     "`chosen` equals `rejected`: there is no preference in this row"),
    ("dpo", {"text": "a"}, "no `chosen`; the row has text"),
    ("dpo", {"chosen": [ASKED, ANSWERED, ASKED], "rejected": [ASKED, {**ANSWERED, "content": "No."}]},
     "`chosen` ends with a user turn where an assistant turn is needed; drop the last message"),
    ("sft", {"messages": [ASKED, ANSWERED, ASKED]},
     "`messages` ends with a user turn where an assistant turn is needed"),
]  # fmt: skip


@pytest.mark.parametrize(("method", "row", "finding"), BAD_ROWS)
def test_a_bad_row_is_named_wherever_it_stands(method: str, row: dict[str, Any], finding: str, told: Told):
    words = ("data.train=bad.jsonl", f"method.name={method}")
    dump("bad.jsonl", row)
    assert f"bad.jsonl: row 1: {finding}" in told(*words)
    dump("bad.jsonl", *pairs(4, completion="Four."), row)
    message = told(*words)
    assert f"bad.jsonl: row 5: {finding}" in message
    assert "1 of 5 rows cannot be used; correct them, or set data.bad_rows: drop" in message
    assert_nothing_was_begun()


def test_overlong_rows_are_told_with_their_lengths(told: Told):
    dump("rows.jsonl", *pairs(6), *pairs(2, prompt="word " * 100))
    message = told()
    assert "data.max_length: 2 of 8 rows (25%) do not fit into 64 tokens with data.overlong: drop" in message
    assert "or data.overlong: cut_prompt or cut_completion" in message
    assert_nothing_was_begun()


@pytest.mark.parametrize(
    ("columns", "finding"),
    [
        ("{prompt: '{promt}'}", "data.columns.prompt: rows.jsonl has no column promt; it has prompt, chosen, rejected"),
        ("{prompt: '{}'}", "data.columns.prompt: empty braces in '{}'; name a column between them"),
        ("{prompt: '{prompt'}", "data.columns.prompt: expected '}' before end of string"),
        ("{promt: prompt}", "data.columns.promt: no such column; accepted: text, messages"),
    ],
)
def test_columns_that_are_not_there(columns: str, finding: str, told: Told):
    assert finding in told(f"data.columns={columns}")


def test_bytes_that_are_no_utf8_are_named_by_their_line(told: Told):
    line = json.dumps(ROW).encode() + b"\n"
    cafe = json.dumps({**ROW, "prompt": "A café au lait?"}, ensure_ascii=False).encode("cp1252")
    Path("windows.jsonl").write_bytes(line + cafe + b"\n")
    assert "windows.jsonl: line 2: byte 0xe9 is not UTF-8, near" in told("data.train=windows.jsonl")
    Path("windows.csv").write_bytes(b"prompt,chosen,rejected\na,b,c\ncaf\xe9,b,c\n")
    message = told("data.train=windows.csv")
    assert "windows.csv: line 3: byte 0xe9 is not UTF-8, near 'café,b,c'; save the file as UTF-8" in message
    Path("windows.jsonl.gz").write_bytes(gzip.compress(line * 3 + cafe))
    assert "windows.jsonl.gz: line 4: byte 0xe9" in told("data.train=windows.jsonl.gz")


def test_what_is_called_gz_and_is_none(told: Told):
    Path("rows.jsonl").rename("plain.jsonl.gz")
    assert "plain.jsonl.gz: cannot be read: not a whole gzip file: " in told("data.train=plain.jsonl.gz")
    Path("cut.jsonl.gz").write_bytes(gzip.compress(json.dumps(ROW).encode() * 50)[:40])
    assert "cut.jsonl.gz: cannot be read: not a whole gzip file: " in told("data.train=cut.jsonl.gz")


def test_marks_windows_line_ends_and_blank_lines_are_no_mistake(capsys: pytest.CaptureFixture[str]):
    rows = b"".join(json.dumps(row).encode() + b"\r\n" for row in pairs(8))
    Path("rows.jsonl").write_bytes(b"\xef\xbb\xbf" + rows + b"\r\n\r\n\n")
    assert main(["train", "mine.yaml", "training.max_steps=1"]) == 0
    assert "tokens for the first 8 rows" in capsys.readouterr().out


# ---- the model ------------------------------------------------------------------------------------------------------


def copy_of(name: str, *without: str, **config: Any) -> str:
    """The shipped model in a folder `name`, without some files, with another config; named as a recipe would."""
    shutil.copytree(STORIES, name, ignore=shutil.ignore_patterns(*without))
    path = Path(name, "config.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | config))
    return f"model.model_name_or_path={name}"


def test_folders_without_a_usable_tokenizer(told: Told):
    assert "bare holds no tokenizer; name one with model.tokenizer_name_or_path" in told(copy_of("bare", "tokenizer*"))
    word = copy_of("endless")
    settings = json.loads(Path("endless/tokenizer_config.json").read_text())
    del settings["eos_token"]
    Path("endless/tokenizer_config.json").write_text(json.dumps(settings))
    message = told(word)
    assert "endless: the tokenizer has no end-of-sequence token; name one of its tokens as eos_token in" in message
    assert "pad_token" not in (STORIES / "tokenizer_config.json").read_text(), "every run here shows it is not needed"
    assert_nothing_was_begun()


def test_folders_that_are_damaged(told: Told):
    word = copy_of("model")
    Path("model/model.safetensors").write_bytes((STORIES / "model.safetensors").read_bytes()[:5000])
    assert "model: cannot be loaded: " in told(word)
    Path("model/config.json").write_text("{")
    assert "model/config.json is not valid JSON" in told(word)
    assert "is a file; expected a folder" in told("model.model_name_or_path=model/config.json")
    message = told("model.model_name_or_path=asset:stories")
    assert "asset:stories: no such asset" in message
    assert "Did you mean asset:stories260k?" in message
    assert_nothing_was_begun()


def test_a_reference_with_another_vocabulary(told: Told):
    copy_of("larger", vocab_size=600)
    message = told("model.ref_model_name_or_path=larger")
    assert "its vocabulary has 600 tokens, the model's 512; the reference must read the same token ids" in message
    copy_of("swapped")
    tokenizer = json.loads(Path("swapped/tokenizer.json").read_text())
    words = tokenizer["model"]["vocab"]
    one, other = list(words)[300:302]
    words[one], words[other] = words[other], words[one]
    Path("swapped/tokenizer.json").write_text(json.dumps(tokenizer))
    message = told("model.ref_model_name_or_path=swapped")
    assert "2 tokens differ, the first" in message
    assert "policy and reference must share one tokenizer" in message
    assert_nothing_was_begun()


def test_weights_that_are_not_numbers_are_refused_by_name(told: Told):
    word = copy_of("poisoned")
    weights = load_file("poisoned/model.safetensors")
    name = sorted(weights)[3]
    weights[name].view(-1)[7] = torch.nan
    save_file(weights, "poisoned/model.safetensors", metadata={"format": "pt"})
    message = told(word)
    assert f"poisoned: its weights hold NaN or infinity in 1 of {len(weights)} tensors, the first {name}" in message
    assert "take an earlier checkpoint or another model" in message
    assert_nothing_was_begun()


FRESH = (
    "model.model_name_or_path=null",
    "model.tokenizer_name_or_path=asset:stories260k",
)
LLAMA = (
    "model.config={model_type: llama, hidden_size: %d, num_hidden_layers: 1, num_attention_heads: 2, "
    "intermediate_size: 16}"
)


def test_a_mistake_after_fresh_weights_leaves_the_folder_free(told: Told):
    assert "matches nothing" in told(*FRESH, LLAMA % 16, "model.lora={target_modules: [q_prj]}")
    assert_nothing_was_begun()
    told(*FRESH, LLAMA % 8, "training.max_steps=1", code=0)


def test_rows_beyond_the_models_positions(told: Told, capsys: pytest.CaptureFixture[str]):
    gpt2 = "model.config={model_type: gpt2, n_embd: 16, n_layer: 1, n_head: 2, n_positions: 48}"
    assert "data.max_length: found 64, but gpt2 has a table of 48 positions; set 48 or less" in told(*FRESH, gpt2)
    assert_nothing_was_begun()
    assert main(["check", "mine.yaml", "data.max_length=600"]) == 0
    note = "note: data.max_length: 600 is more than the 512 positions that the model was made for"
    assert note in capsys.readouterr().out


# ---- resuming -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two steps, with a checkpoint after each. To be copied, not touched."""
    place = tmp_path_factory.mktemp("whole")
    before = Path.cwd()
    os.chdir(place)
    try:
        dump("rows.jsonl", *pairs(8))
        Path("mine.yaml").write_text(RECIPE)
        assert main(["train", "mine.yaml"]) == 0
    finally:
        os.chdir(before)
    return place / "run"


@pytest.fixture
def run(whole: Path) -> Path:
    return Path(shutil.copytree(whole, "run"))


def files(run: Path) -> dict[str, bytes]:
    return {str(p.relative_to(run)): p.read_bytes() for p in run.rglob("*") if p.is_file() and p.name != ".lock"}


@pytest.fixture
def unchanged(run: Path, told: Told) -> Iterator[Path]:
    """Around a refusal: nothing in the run has changed, and one step more can be trained."""
    before = files(run)
    yield run
    assert files(run) == before
    go_on(told)


MORE = ("training.max_steps=3", "--allow-changes", "training.max_steps", "--resume")


def go_on(told: Told, *words: str) -> None:
    told(*words, *MORE, code=0)
    assert steps() == [1, 2, 3]


def steps() -> list[int]:
    return [json.loads(line)["step"] for line in Path("run/metrics.jsonl").read_text().splitlines()]


def test_a_resume_with_another_recipe_or_data_is_refused(unchanged: Path, told: Told):
    message = told("method.beta=0.3", "--resume")
    assert "resume: method.beta: the saved run has 0.1, this one 0.3; put the old value back, or allow" in message
    dump("rows.jsonl", *pairs(9))
    message = told("--resume")
    assert "resume: data: the saved run has" in message
    assert "a hash of the rows" in message
    dump("rows.jsonl", *pairs(8))


def test_a_foreign_checkpoint_is_refused_and_the_new_folder_stays_free(unchanged: Path, told: Told):
    path = str(unchanged / "checkpoints/step-000002")
    message = told("method.beta=0.3", "training.output_dir=other", "--resume", path)
    assert "method.beta: the saved run has 0.1" in message
    assert [p.name for p in Path("other").iterdir()] == [".lock"]
    alone = shutil.copytree(path, "elsewhere/deep/step-000002")
    message = told("training.output_dir=other", "--resume", str(alone))
    assert "elsewhere/identity.json: is not there, so nothing says of which run the checkpoint is" in message
    lora = ("model.lora={r: 2}", "training.output_dir=other", "--allow-changes", "all")
    message = told(*lora, "--resume", str(alone))
    assert "step-000002: is of another model: " in message


def test_damaged_checkpoints(run: Path, told: Told, capsys: pytest.CaptureFixture[str]):
    newest, older = (run / "checkpoints" / f"step-{n:06d}" for n in (2, 1))
    whole = (newest / "optimizer.pt").read_bytes()
    (newest / "optimizer.pt").write_bytes(whole[:-1] + b"!")
    message = told("--resume", str(newest))
    assert f"{newest}: cannot be resumed from: optimizer.pt: content is not what was written" in message
    assert "Resume from another checkpoint" in message
    (older / "weights.safetensors").unlink()
    message = told("--resume")
    assert "run/checkpoints: no checkpoint is whole" in message
    assert "step-000001: damaged: weights.safetensors: missing" in message
    assert steps() == [1, 2]
    (newest / "optimizer.pt").write_bytes(whole)
    go_on(told)


def test_a_newer_checkpoint(unchanged: Path, told: Told):
    manifest = unchanged / "checkpoints/step-000002/manifest.json"
    before = manifest.read_text()
    manifest.write_text(json.dumps(json.loads(before) | {"format": 2, "align": "9.0"}))
    for words in (("--resume",), ("--resume", str(manifest.parent))):
        message = told(*words)
        assert "manifest.json: format 2 is from a newer align (9.0); this one reads 1" in message
        assert "Upgrade align, or resume from an older checkpoint by its path" in message
    manifest.write_text(before)


def test_what_is_no_checkpoint(unchanged: Path, told: Told):
    assert "step-000009: no such checkpoint" in told("--resume", "run/checkpoints/step-000009")
    assert "run: cannot be resumed from: manifest.json: missing" in told("--resume", "run")
    assert "run holds a run already, and nothing is overwritten. Go on with it by --resume" in told()


@pytest.mark.parametrize(
    ("name", "finding"),
    [
        ("identity.json", "run/identity.json: cannot be read"),
        ("metrics.jsonl", "run/metrics.jsonl:1: not a line of this log"),
    ],
)
def test_a_run_folder_with_a_spoilt_file(name: str, finding: str, run: Path, told: Told):
    before = (run / name).read_text()
    (run / name).write_text("{]\n" + before)
    assert finding in told("--resume")
    (run / name).write_text(before)
    go_on(told)


# ---- during a run ---------------------------------------------------------------------------------------------------


def test_a_learning_rate_that_explodes_names_step_and_rows_and_keeps_what_was(run: Path, told: Told):
    weights = (run / "checkpoints/step-000002/weights.safetensors").read_bytes()
    allowed = ("--allow-changes", "optim.learning_rate", "--allow-changes", "training.max_steps", "--resume")
    message = told("optim.learning_rate=1e30", "training.max_steps=6", "training.save_total_limit=9", *allowed, code=1)
    assert "align: step 4: " in message
    assert " nan" in message
    assert "in 4 rows (rows.jsonl: row " in message
    assert "Lower optim.learning_rate" in message
    assert "the state after step 3 is kept" in message
    assert steps() == [1, 2, 3]
    assert (run / "checkpoints/step-000003/manifest.json").exists()
    assert (run / "checkpoints/step-000002/weights.safetensors").read_bytes() == weights
    told(*allowed[:4], "training.max_steps=4", "--resume", str(run / "checkpoints/step-000002"), code=0)
    assert steps() == [1, 2, 3, 4]


def test_only_the_rows_with_nan_are_named(told: Told, monkeypatch: pytest.MonkeyPatch, folder: Path):
    """A method that cannot bear a margin above 6: one row of four spoils the step."""
    monkeypatch.syspath_prepend(folder)
    Path("spoilt.py").write_text(SPOILT)
    dump("rows.jsonl", *pairs(3), {**ROW, "margin": 7.0})
    message = told("method.name=spoilt:Spoilt", code=1)
    assert "align: step 1: loss is nan, in 1 row (rows.jsonl: row 4). Lower" in message
    assert "no step was made" in message


def test_a_held_out_row_with_nan_is_named_and_the_step_is_kept(
    told: Told, monkeypatch: pytest.MonkeyPatch, folder: Path
):
    monkeypatch.syspath_prepend(folder)
    Path("spoilt.py").write_text(SPOILT)
    dump("held.jsonl", *pairs(3), {**ROW, "margin": 7.0})
    held_out = ("data.validation=held.jsonl", "training.eval_steps=1", "training.save_steps=0")
    message = told("method.name=spoilt:Spoilt", *held_out, code=1)
    assert "align: step 1: loss on the validation split is not finite, in 1 row (held.jsonl: row 4). Lower" in message
    assert steps() == [1]
    assert (Path("run") / "checkpoints/step-000001/manifest.json").exists()


SPOILT = '''
from dataclasses import dataclass
from align.batches import GradedPairs, Sequences
from align.methods.base import Loss, OfflineMethod

@dataclass(frozen=True, kw_only=True)
class Spoilt(OfflineMethod[GradedPairs[Sequences]]):
    name = "spoilt"
    paper = "none"

    def loss(self, batch):
        return Loss(batch.chosen.logps.sum(-1).masked_fill(batch.margins > 6.0, float("nan")))
'''


def forked(words: list[str], limit: Callable[[], None], log: Path) -> tuple[int, str]:
    """The command in a child under a limit of the system; its exit code and what it said on both streams."""
    child = os.fork()
    if not child:
        sys.stdout = sys.stderr = log.open("w")
        code = 99
        try:
            limit()
            code = main(words)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), log.read_text()


def test_a_disk_that_fills_while_saving_keeps_the_checkpoint_before(run: Path, told: Told):
    """A limit on the size of files stands for the disk: logs and reports fit, weights do not."""
    before = files(run / "checkpoints")

    def small() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))

    code, said = forked(["train", "mine.yaml", *MORE], small, run.with_name("log"))
    assert code == 1, said
    assert "Traceback" not in said
    assert "run/checkpoints: no room to save step-000003" in said
    assert "the previous checkpoint step-000002 is intact. Make room" in said
    assert files(run / "checkpoints") == before
    go_on(told)


def test_memory_that_runs_out_says_what_to_change(run: Path, told: Told):
    before = files(run / "checkpoints")
    dump("wide.jsonl", *pairs(64, prompt="word " * 60))
    wide = ["data.train=wide.jsonl", "data.max_length=400", "training.batch_size=64", "training.max_tokens=1000000"]

    def little() -> None:
        held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (held + 250_000_000, held + 250_000_000))

    words = ["train", "mine.yaml", *wide, *MORE[:-1], "--allow-changes", "all", "--resume"]
    code, said = forked(words, little, run.with_name("log"))
    assert code == 1, said
    assert "Traceback" not in said
    assert "align:\nout of memory: " in said
    assert "lower training.max_tokens" in said
    assert "Checkpoints stay: go on with --resume --allow-changes KEY" in said
    assert files(run / "checkpoints") == before
    go_on(told)

"""Resumes that are refused and runs that fail: exit code, message, and nothing already made is lost.

Two ranks with different data and a world size that did not come true are in tests/distributed; an output folder in use
by a live run is in tests/run/test_kill.py.
"""

import json
import os
import re
import resource
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from children import end_with
from mistakes import RECIPE, ROW, Told, dump, pairs

from align.cli.main import main
from align.system.sums import sealed, unsealed


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
    message = told("method.beta=0.3", "training.output_dir=other", "--resume", str(alone))
    assert "method.beta: the saved run has 0.1" in message, "it says itself of which run it is"
    lora = ("model.lora={r: 2}", "training.output_dir=other", "--allow-changes", "all")
    message = told(*lora, "--resume", str(alone))
    assert "step-000002: is of another model: " in message


def test_damaged_checkpoints(run: Path, told: Told, capsys: pytest.CaptureFixture[str]):
    newest, older = (run / "checkpoints" / f"step-{n:06d}" for n in (2, 1))
    whole = (newest / "state-00000.pt").read_bytes()
    (newest / "state-00000.pt").write_bytes(whole[:-1] + b"!")
    message = told("--resume", str(newest))
    assert f"{newest}: cannot be resumed from: state-00000.pt: content is not what was written" in message
    assert "Resume from another checkpoint" in message
    (older / "state-00000.pt").unlink()
    message = told("--resume")
    assert "run/checkpoints: no checkpoint is whole" in message
    assert "step-000001: damaged: state-00000.pt: missing" in message
    assert steps() == [1, 2]
    (newest / "state-00000.pt").write_bytes(whole)
    go_on(told)


def test_a_newer_checkpoint(unchanged: Path, told: Told):
    manifest = unchanged / "checkpoints/step-000002/manifest.json"
    before = manifest.read_text()
    manifest.write_text(json.dumps(sealed(unsealed(json.loads(before)) | {"format": 9, "align": "9.0"})))
    for words in (("--resume",), ("--resume", str(manifest.parent))):
        message = told(*words)
        assert "manifest.json: format 9 is from a newer align (9.0); this one reads 2" in message
        assert "Go on with the align that wrote it, or resume from another checkpoint by its path" in message
    manifest.write_text(before)


def test_what_is_no_checkpoint(unchanged: Path, told: Told):
    assert "step-000009: no such checkpoint" in told("--resume", "run/checkpoints/step-000009")
    assert "run: cannot be resumed from: manifest.json: missing" in told("--resume", "run")
    assert "run holds a run already, and nothing is overwritten. Go on with it by --resume" in told()


def test_a_run_folder_with_a_spoilt_log(run: Path, told: Told):
    before = (run / "metrics.jsonl").read_text()
    (run / "metrics.jsonl").write_text("{]\n" + before)
    assert "run/metrics.jsonl:1: is no JSON object" in told("--resume")
    (run / "metrics.jsonl").write_text(before)
    go_on(told)


def test_a_spoilt_identity_matters_where_no_checkpoint_says_it(run: Path, told: Told):
    shutil.rmtree(run / "checkpoints")
    content = bytearray((run / "identity.json").read_bytes())
    content[content.index(b'"beta": 0.1') + 10] ^= 1  # 0.1 to 0.0
    (run / "identity.json").write_bytes(content)
    assert "run/identity.json: cannot be read (its content is not what was written" in told("--resume")
    told("--resume", "--allow-changes", "all", code=0)
    assert steps() == [1, 2]


# ---- during a run ---------------------------------------------------------------------------------------------------


def test_a_learning_rate_that_explodes_names_step_and_rows_and_keeps_what_was(run: Path, told: Told):
    weights = (run / "checkpoints/step-000002/state-00000.pt").read_bytes()
    allowed = ("--allow-changes", "optim.learning_rate", "--allow-changes", "training.max_steps", "--resume")
    message = told("optim.learning_rate=1e30", "training.max_steps=6", "training.save_total_limit=9", *allowed, code=1)
    assert "align: step 4: " in message
    assert " nan" in message
    assert "in 4 rows (rows.jsonl: row " in message
    assert "Lower optim.learning_rate" in message
    assert "the state after step 3 is kept" in message
    assert steps() == [1, 2, 3]
    assert (run / "checkpoints/step-000003/manifest.json").exists()
    assert (run / "checkpoints/step-000002/state-00000.pt").read_bytes() == weights
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


SPOILT = """
from dataclasses import dataclass
from align.batches import GradedPairs, Sequences
from align.methods.base import Loss, OfflineMethod

@dataclass(frozen=True, kw_only=True)
class Spoilt(OfflineMethod[GradedPairs[Sequences]]):
    name = "spoilt"
    paper = "none"

    def loss(self, batch):
        return Loss(batch.chosen.logps.sum(-1).masked_fill(batch.margins > 6.0, float("nan")))
"""


def forked(words: list[str], limit: Callable[[], None], log: Path) -> tuple[int, str]:
    """The command in a child under a limit of the system; its exit code and what it said on both streams."""
    child = os.fork()
    if not child:
        sys.stdout = sys.stderr = log.open("w")
        end_with(lambda: (limit(), main(words))[1])
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
    code, said = forked(["export", str(run / "checkpoints/step-000002"), "out"], small, run.with_name("log"))
    assert code == 1, said
    assert re.search(r"align: no room on the disk: .*\. Make room, then give the command again$", said), said
    assert not Path("out").exists()
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
    told(*wide[:-1], *MORE[:-1], "training.max_tokens=2000", "--allow-changes", "all", "--resume", code=0)

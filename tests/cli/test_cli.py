"""The commands: what they print, and with which code they end."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from align import __version__
from align.cli import main as cli
from align.cli.main import main
from align.errors import RunError, Stopped, UserError
from align_eval.cli import main as eval_main


def test_check_shows_the_resolved_recipe_and_its_arithmetic(capsys: pytest.CaptureFixture[str]):
    assert main(["check", "dpo", "training.batch_size=100", "training.num_train_epochs=1"]) == 0
    out = capsys.readouterr().out
    assert "output_dir: runs/dpo" in out
    assert "steps: 9, 1.01 epochs of about 891 rows" in out  # 990 rows less a tenth; 891 / 100 rounded up
    assert "260,032 weights" in out  # the documented size of the model
    assert out.rstrip().endswith("dpo: no mistakes found")


def test_check_counts_both_sides_of_a_pair_as_rows_of_kto(capsys: pytest.CaptureFixture[str]):
    assert main(["check", "kto", "training.num_train_epochs=1"]) == 0
    assert "steps: 28, 1.01 epochs of about 1782 rows" in capsys.readouterr().out  # 2 * 891 / 64 rounded up


@pytest.mark.parametrize(
    ("recipe", "told"),
    [
        ("vineppo", "and those that vineppo asks for"),
        ("dapo", "and up to 2 times as many"),
        ("t_ppo", "(or parts of completions: 16 tokens"),
        ("grpo", None),
    ],
)
def test_check_says_what_it_cannot_count(recipe: str, told: str | None, capsys: pytest.CaptureFixture[str]):
    assert main(["check", recipe]) == 0
    lines = capsys.readouterr().out.splitlines()
    (at,) = [i for i, line in enumerate(lines) if "completions written: " in line]
    assert lines[at + 1].strip().startswith(told or "evaluations: ")


@pytest.mark.parametrize("size", [{"vocab_size": 512}, {}])  # the tokenizer knows how many tokens it has
def test_check_estimates_a_model_that_is_only_a_config(size: dict[str, int], capsys: pytest.CaptureFixture[str]):
    config = json.dumps(size | {
        "model_type": "llama", "hidden_size": 64, "intermediate_size": 172, "num_hidden_layers": 5,
        "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 8, "tie_word_embeddings": True,
    })  # fmt: skip
    fresh = [
        "model.model_name_or_path=null",
        f"model.config={config}",
        "model.tokenizer_name_or_path=asset:stories260k",
    ]
    assert main(["check", "sft", *fresh]) == 0
    # The shipped model's shape: 260,032 weights, of which the last norm's 64 are not worth a line of code.
    assert "260,032 weights" in capsys.readouterr().out


def test_check_reports_all_mistakes_at_once_without_a_traceback(capsys: pytest.CaptureFixture[str]):
    assert main(["check", "dpo", "method.bta=0.2", "training.lr=1"]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 3
    assert "method.bta: no such key; dpo has beta. Did you mean beta?" in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["check"], "Missing argument"),
        (["chek"], "No such command"),
        (["check", "nowhere"], "no such file, and no shipped recipe"),
        (["train", "dpo", "--allow-changes", "all"], "belongs to --resume"),
        (["methods", "dpo", "--json"], "exclude each other"),
        (["report", "nowhere"], "nowhere"),
        (["train", "docs/generate/hooks.py"], "hooks.py: is a Python script, and no recipe"),
        (["check", "dpo", "--data.bad_rows", "drop"], "set without dashes; write it as data.bad_rows=VALUE"),
        (["check", "dpo", "data.train=json[test]"], "json[test]: json is a loader, and no data set"),
        (["export", "nowhere", "out"], "nowhere: no such folder"),
        (["export", "recipe", "out"], "Did you mean recipes?"),
        (["chat", "asset:nowhere"], "no such model is shipped"),
    ],
)
def test_a_wrong_command_line_ends_with_2(words: list[str], told: str, capsys: pytest.CaptureFixture[str]):
    assert main(words) == 2
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    ("raised", "code", "told"),
    [
        (UserError("the row"), 2, "align: the row"),
        (RunError("the step"), 1, "align: the step"),
        (Stopped("saved"), 75, "align: saved"),
        (KeyboardInterrupt(), 1, "stopped by the keyboard"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), 1, "lower training.max_tokens"),
        (RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: not enough memory"), 1, "head_chunk"),
        (MemoryError(), 1, "gradient_checkpointing"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), 1, "head_chunk"),
        (RuntimeError("std::bad_alloc"), 1, "head_chunk"),
        (OSError(errno.EMFILE, "Too many open files", "rows.jsonl"), 1, "ulimit -n"),
        (RuntimeError("I/O error: Too many open files (os error 24)"), 1, "ulimit -n"),
        (RuntimeError("can't start new thread"), 1, "ulimit -u"),
        (OSError(errno.ENOSPC, "No space left on device"), 1, "make room"),
        (PermissionError(errno.EACCES, "Permission denied", "run/metrics.jsonl"), 1, "denied: 'run/metrics.jsonl'"),
        (OSError(errno.ENAMETOOLONG, "File name too long", "a" * 300), 2, "aaa...: File name too long"),
    ],
)
def test_exit_codes(raised: BaseException, code: int, told: str, capsys: pytest.CaptureFixture[str]):
    assert cli.run_app(failing(raised), ["train"]) == code
    err = capsys.readouterr().err
    assert told in err
    assert "Traceback" not in err


def failing(raised: BaseException) -> cli.typer.Typer:
    """Commands that all end so."""
    app = cli.typer.Typer()

    def fail() -> None:
        raise raised

    for name in ("train", "doctor", "export"):
        app.command(name)(fail)
    return app


@pytest.mark.parametrize(
    ("raised", "command", "told"),
    [
        (MemoryError(), "doctor", "gradient_checkpointing"),
        (MemoryError(), "export", "a smaller model"),
        (OSError(errno.ENOSPC, "No space left on device"), "doctor", "Make room, then give the command again"),
    ],
)
def test_cures_are_those_of_the_command(
    raised: BaseException, command: str, told: str, capsys: pytest.CaptureFixture[str]
):
    assert cli.run_app(failing(raised), [command]) == 1
    assert told in capsys.readouterr().err


def test_a_defect_of_ours_keeps_its_traceback():
    app = cli.typer.Typer()

    @app.command()
    def fail() -> None:
        raise RuntimeError("sizes of tensors must match")

    with pytest.raises(RuntimeError, match="sizes of tensors"):
        cli.run_app(app, [])


def test_only_the_first_rank_of_a_machine_tells_a_users_mistake(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank, told in (("1", ""), ("0", "Did you mean beta?")):
        monkeypatch.setenv("RANK", rank)
        monkeypatch.setenv("LOCAL_RANK", rank)
        assert main(["check", "dpo", "method.bta=1"]) == 2
        assert told in (err := capsys.readouterr().err)
        assert bool(err) == bool(told)


def test_resume_may_stand_alone(tmp_path: Path):
    def read(*words: str) -> list[str]:
        return cli._with_resume(["train", *words])[1:]

    assert read("dpo", "--resume") == ["dpo", "--resume", "auto"]
    assert read("--resume", "dpo", "training.seed=1") == ["--resume", "auto", "dpo", "training.seed=1"]
    assert read("dpo", "--resume", "auto") == ["dpo", "--resume", "auto"]
    assert read("dpo", "--resume", str(tmp_path)) == ["dpo", "--resume", str(tmp_path)]
    assert read("--resume", "recipes/dpo.yaml") == ["--resume", "auto", "recipes/dpo.yaml"]


def test_debug_shows_where(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ALIGN_DEBUG", "1")
    assert main(["check", "dpo", "method.bta=1"]) == 2
    assert "Traceback" in capsys.readouterr().err


def test_a_real_process_ends_with_the_code_and_stays_light(repository: Path, tmp_path: Path):
    """`check` must not import a model class: transformers alone would take longer than it may."""
    code = (
        "import sys; from align.cli.main import main; code = main(sys.argv[1:]); "
        "assert 'transformers' not in sys.modules and 'accelerate' not in sys.modules; sys.exit(code)"
    )
    environment = {"PYTHONPATH": f"{repository}:{repository / 'eval'}", "PATH": "/usr/bin:/bin"}

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        started = [sys.executable, "-c", code, *words]
        return subprocess.run(started, capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=120)

    good, bad = run("check", "dpo"), run("check", "dpo", "optim.learning_rate=fast")
    assert (good.returncode, bad.returncode) == (0, 2), good.stderr + bad.stderr
    assert bad.stderr == "align: command line: optim.learning_rate: found the text 'fast'; expected a number.\n"


ONE_OF_SEVERAL = """
import atexit, torch
from align.__main__ import leave

class Kept:
    def __del__(self):
        print("taken apart")

kept = Kept()
atexit.register(print, "at exit")
torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
print("said")
leave(75)
"""


def test_one_of_several_processes_does_not_take_its_interpreter_apart():
    ended = subprocess.run([sys.executable, "-c", ONE_OF_SEVERAL], capture_output=True, text=True, timeout=120)
    assert (ended.returncode, ended.stdout) == (75, "said\nat exit\n"), ended.stderr


def test_chat_answers_lines_from_a_pipe(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    import io

    monkeypatch.setattr(
        sys, "stdin", io.StringIO("Once upon a time, there was a little girl named\n/quit\nnever read\n")
    )
    assert main(["chat", "asset:stories260k", "--temperature", "0", "--max-new-tokens", "12"]) == 0
    assert "Lily" in capsys.readouterr().out  # the published greedy continuation


def test_chat_refuses_a_system_message_without_a_template(capsys: pytest.CaptureFixture[str]):
    assert main(["chat", "asset:stories260k", "--system", "Be kind."]) == 2
    assert "has no chat template" in capsys.readouterr().err


def test_align_eval_compares_row_by_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    for name, rows in (("before", [0.0, 0.0, 1.0, 0.0]), ("after", [1.0, 0.0, 1.0, 1.0])):
        (tmp_path / name).mkdir()
        (tmp_path / name / "recipe.yaml").write_text("name: x\nmethod: {name: dpo}\n")
        (tmp_path / name / "metrics.jsonl").write_text('{"step": 1, "loss": 1.0}\n')
        measured = {"value": sum(rows) / 4, "stderr": 0.25, "n": 4, "rows": rows}
        (tmp_path / name / "test.json").write_text(json.dumps({"accuracy": measured, "loss": measured}))
    assert eval_main(["compare", str(tmp_path / "before"), str(tmp_path / "after")]) == 0
    # differences 1 0 0 1: mean 0.5, deviation sqrt(1/3), over sqrt(4) rows 0.2887
    _, line, loss = capsys.readouterr().out.splitlines()
    assert loss.endswith("paired, 4 rows")
    assert line.split() == [
        "accuracy",
        *["0.2500", "±", "0.2500", "0.7500", "±", "0.2500", "0.5000", "±", "0.2887", "paired,", "4", "rows"],
    ]
    (tmp_path / "after" / "recipe.yaml").write_text("name: x\nmethod: {name: sft}\n")
    assert eval_main(["compare", str(tmp_path / "before"), str(tmp_path / "after")]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[0] == "not compared, for the two runs mean different quantities by it: loss"
    assert [row.split()[0] for row in told[1:]] == ["metric", "accuracy"]
    assert eval_main(["compare", str(tmp_path), str(tmp_path / "after")]) == 2


def test_both_commands_tell_their_version(capsys: pytest.CaptureFixture[str]):
    assert (main(["--version"]), eval_main(["--version"])) == (0, 0)
    assert capsys.readouterr().out == f"align {__version__}\nalign-eval {__version__}\n"

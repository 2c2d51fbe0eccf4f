"""A server that is started for a model, asked for token ids, and ended: by a program that stands for vLLM."""

from __future__ import annotations

from pathlib import Path

import pytest
from rollout.fake_vllm import COMMAND

from align.assets import asset
from align_eval.cli import main
from align_eval.store import read_answers

OPENINGS = str(asset("asset:story_openings/test.jsonl"))


def test_a_server_is_started_and_writes(tmp_path: Path):
    """It answers every request with token 5, as often as it may; which text that is, the tokenizer knows."""
    words = ["limit=3", "engine=vllm", f"vllm_command={COMMAND}", "max_completion_length=4"]
    assert main(["generate", OPENINGS, "--model", "asset:stories260k", "--out", str(tmp_path), *words]) == 0
    answers = read_answers(tmp_path)
    assert [(a.stop, a.num_tokens) for a in answers] == [("length", 4)] * 3


def test_where_there_is_no_vllm_that_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    words = ["engine=vllm", "vllm_command=no-such-vllm serve"]
    assert main(["generate", OPENINGS, "--model", "asset:stories260k", "--out", str(tmp_path), *words]) == 2
    assert "no-such-vllm: no such program; install vLLM" in capsys.readouterr().err

"""One process started as torchrun starts it: the run that it is alone."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import forked
from launches import TIMEOUT
from small_runs import metrics, same, train, weights

RUN = (
    "training.num_train_epochs=null", "training.max_steps=2", "training.eval_steps=0", "data.test=0",
    "data.validation=0", "data.num_rows=12", "training.batch_size=4", "logging.num_completions=0",
)  # fmt: skip


def test_a_single_rank_is_the_process_alone(tmp_path: Path):
    """In a process of its own: another run in this one has already settled how many there are."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = str(free.getsockname()[1])
    rank = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "localhost", "MASTER_PORT": port}
    launched = tmp_path / "launched"
    log, words = tmp_path / "log.txt", ["train", "dpo", f"training.output_dir={launched}", *RUN]
    assert forked.alone(tmp_path, log, words, {**os.environ, **rank}).wait(TIMEOUT) == 0, log.read_text()
    alone = train("dpo", tmp_path / "alone", *RUN)
    assert metrics(alone) == metrics(launched)
    assert same(weights(alone), weights(launched))

"""One process started as torchrun starts it: the run that it is alone."""

from __future__ import annotations

import socket
from pathlib import Path

from fuzz.lives import Place, live
from small_runs import metrics, same, weights

RUN = (
    "training.num_train_epochs=null", "training.max_steps=2", "training.eval_steps=0", "data.test=0",
    "data.validation=0", "data.num_rows=12", "training.batch_size=4", "logging.num_completions=0",
)  # fmt: skip


def test_a_single_rank_is_the_process_alone(tmp_path: Path):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = str(free.getsockname()[1])
    launched = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "localhost", "MASTER_PORT": port}
    for name, environment in (("alone", {}), ("launched", launched)):
        place = Place(tmp_path, tmp_path / "cache", tuple(environment.items()))
        life = live(["train", "dpo", f"training.output_dir={name}", *RUN], place)
        assert (life.code, life.problems) == (0, []), life.text
    assert metrics(tmp_path / "alone") == metrics(tmp_path / "launched")
    assert same(weights(tmp_path / "alone"), weights(tmp_path / "launched"))

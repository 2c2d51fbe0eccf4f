"""Code that is not ours, run apart."""

from __future__ import annotations

import random
import threading
from typing import Any

import numpy as np
import torch

from align.outside import drawing, own


def drawn() -> list[float]:
    return [random.random(), float(np.random.random()), torch.rand(()).item()]


def test_draws_follow_from_the_seed_and_move_nobody_elses():
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    undisturbed = drawn(), drawn()
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    first = drawn()
    with drawing(2**64 - 1):
        inside = drawn()
    assert (first, drawn()) == undisturbed
    with drawing(2**64 - 1):
        assert drawn() == inside
    with drawing(2**64 - 2):
        assert len({*drawn(), *inside}) == 6


def test_a_thread_beside_the_training_leaves_torchs_generator_alone():
    torch.manual_seed(1)
    right = torch.rand(3).tolist()
    torch.manual_seed(1)

    def work() -> None:
        with drawing(5):
            random.random()

    found = torch.rand(1).tolist()
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found + torch.rand(2).tolist() == right


def test_a_copy_shares_nothing_that_can_be_changed():
    value: dict[str, Any] = {"a": [1, {"b": [2.5, None, "text"]}], "c": np.arange(3)}
    copy = own(value)
    copy["a"][1]["b"].clear()
    copy["c"][0] = 9
    assert value["a"] == [1, {"b": [2.5, None, "text"]}]
    assert value["c"].tolist() == [0, 1, 2]
    assert own("text") == "text"

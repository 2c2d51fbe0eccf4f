"""Several servers: who is asked, and that a completion is neither lost nor doubled where one of them dies."""

from __future__ import annotations

import os
import signal
import threading
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rollout.fake_vllm import COMMAND, DROPPED, Fake, completion, serving, settings

from align.errors import RunError
from align.rollout.engine import Request, Sampling
from align.rollout.vllm.client import Client
from align.rollout.vllm.engine import VLLMEngine
from align.rollout.vllm.fleet import Address, Fleet
from align.rollout.vllm.server import Process, Server, start
from align.rollout.vllm.servers import MOST, Servers, Station

SAMPLING = Sampling(max_completion_length=3, stop_token_ids=(1,))
NUM = 12


def engine(*fakes: Fake, said: list[str] | None = None, max_rows: int = 4) -> VLLMEngine:
    addresses = [Address(Client(fake.url, 5.0, 0), "policy") for fake in fakes]
    fleet = Fleet(addresses, "mine:3", (said if said is not None else []).append)
    return VLLMEngine(fleet, lambda ids: " ".join(map(str, ids)), max_rows, version=3)


def write(by: VLLMEngine) -> list[int]:
    """The first token of each of NUM prompts, which the servers of these tests repeat."""
    requests = [Request(np.array([40 + i], dtype=np.int32), (i,)) for i in range(NUM)]
    return [int(written.tokens[0]) for (written,) in by.write(requests, SAMPLING)]


def echo(body: Any) -> Any:
    return completion([body["prompt"][0], 2, 3])


def prompts_of(fake: Fake) -> Counter[int]:
    return Counter(body["prompt"][0] for path, body in fake.asked if path == "/v1/completions")


EVERY = [40 + i for i in range(NUM)]


def test_the_one_with_the_fewest_requests_is_asked():
    with ExitStack() as stack:
        slow, quick = (stack.enter_context(serving()) for _ in range(2))
        waiting = threading.Event()

        def stuck(body: Any) -> Any:
            assert waiting.wait(20)
            return echo(body)

        def last(body: Any) -> Any:
            if sum(prompts_of(quick).values()) == NUM - 2:  # all but the two that wait at the other
                waiting.set()
            return echo(body)

        slow.answers["/v1/completions"], quick.answers["/v1/completions"] = stuck, last
        assert write(engine(slow, quick, max_rows=2)) == EVERY  # four side by side: two of them wait
    assert (sum(prompts_of(slow).values()), sum(prompts_of(quick).values())) == (2, NUM - 2)


@pytest.mark.parametrize("status", [DROPPED, 503])
def test_what_a_dead_one_had_not_answered_is_asked_of_the_others_with_the_same_seeds(status: int):
    said = list[str]()
    with ExitStack() as stack:
        dying, other = (stack.enter_context(serving()) for _ in range(2))
        other.answers["/v1/completions"] = echo
        dying.answers["/v1/completions"] = lambda body: echo(body) if sum(prompts_of(dying).values()) < 3 else status
        by = engine(dying, other, said=said)
        assert write(by) == EVERY
        seeds = {b["prompt"][0]: b["seed"] for path, b in other.asked + dying.asked if path == "/v1/completions"}
        again = [b for path, b in other.asked if path == "/v1/completions" and b["prompt"][0] in prompts_of(dying)]
        assert again
        assert all(body["seed"] == seeds[body["prompt"][0]] for body in again)
        assert max(prompts_of(other).values()) == 1
        before = sum(prompts_of(dying).values())
        assert write(by) == EVERY  # without the dead one, until there are new weights
        assert sum(prompts_of(dying).values()) == before
    assert len(said) == 1
    assert dying.url in said[0]


def test_all_that_one_wrote_is_asked_again_where_it_came_back_with_other_weights():
    said = list[str]()
    with ExitStack() as stack:
        reborn, other = (stack.enter_context(serving()) for _ in range(2))
        other.answers["/v1/completions"] = echo
        reborn.answers["/v1/completions"] = lambda body: completion([9, 9, 9])  # not to be learned from
        reborn.answers["/weight_info"] = lambda _: {"weight_version": "default" if prompts_of(reborn) else "mine:3"}
        assert write(engine(reborn, other, said=said)) == EVERY
    assert prompts_of(reborn)
    assert "after a batch its weights are 'default'" in said[0]


def test_where_the_last_one_dies_the_run_ends():
    with ExitStack() as stack:
        fakes = [stack.enter_context(serving()) for _ in range(2)]
        for fake in fakes:
            fake.answers["/v1/completions"] = 500
        with pytest.raises(RunError, match=r"status 500.*go on with --resume"):
            write(engine(*fakes))


# ---- those that a run starts ----------------------------------------------------------------------------------------


def servers(tmp_path: Path, said: list[str], *commands: str) -> Servers:
    def station(number: int, command: str) -> Station:
        log = tmp_path / f"vllm-{number}.log"
        return Station(lambda weights: start(settings(), command, weights, (), log))

    return Servers([station(n, c) for n, c in enumerate(commands, 1)], lambda _: None, said.append)


def kill(server: Server) -> None:
    assert isinstance(server.process, Process)
    os.kill(server.process.child.pid, signal.SIGKILL)
    server.process.child.wait()


def labels(addresses: list[Address]) -> list[str]:
    return [address.client.get("/weight_info")["weight_version"] for address in addresses]


def test_a_dead_one_is_started_again_with_the_next_weights_and_left_out_when_it_dies_too_often(tmp_path: Path):
    said = list[str]()
    made = servers(tmp_path, said, COMMAND, COMMAND)
    try:
        assert labels(made.give(tmp_path, "mine:0")) == ["mine:0"] * 2
        steady = made.up[1].client.url
        for number in range(1, MOST + 1):
            kill(made.up[0])
            found = made.give(tmp_path, f"mine:{number}")
            assert labels(found) == [f"mine:{number}"] * 2
            assert found[1].client.url == steady
        assert not said
        kill(made.up[0])
        assert [address.client.url for address in made.give(tmp_path, "mine:9")] == [steady]
        assert "ended by signal SIGKILL" in said[0]
        assert "goes on with the other servers" in said[0]
        kill(made.up[1])
        made.stations[1].num_starts = MOST + 1
        with pytest.raises(RunError, match="ended by signal SIGKILL"):
            made.give(tmp_path, "mine:10")
    finally:
        made.close()


def test_one_that_cannot_be_started_at_all_is_the_users_to_mend(tmp_path: Path):
    made = servers(tmp_path, [], COMMAND, f"{COMMAND} --die")
    try:
        with pytest.raises(RunError, match=r"rollout.vllm_command: .*ended with exit code 1"):
            made.give(tmp_path, "mine:0")
    finally:
        made.close()


def test_what_prompts_hit_is_summed_over_servers_and_begins_where_the_run_began():
    def counts(queries: int, hits: int) -> str:
        return f"vllm:prefix_cache_queries_total {queries}.0\nvllm:prefix_cache_hits_total {hits}.0\n"

    with ExitStack() as stack:
        one, two = (stack.enter_context(serving()) for _ in range(2))
        one.texts["/metrics"], two.texts["/metrics"] = counts(1000, 900), counts(50, 10)
        stations = [Station(server=Server(Client(fake.url, 5.0, 0), "policy")) for fake in (one, two)]
        made = Servers(stations, lambda _: None, lambda _: None)
        made.give(Path("weights"), "mine:0")
        one.texts["/metrics"], two.texts["/metrics"] = counts(1100, 960), counts(150, 40)
        assert made.looked_up() == (200.0, 90.0)
        assert made.looked_up() == (0.0, 0.0)

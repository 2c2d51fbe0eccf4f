"""What must be true of all ranks before any of them loads anything, found in a minute and not after an hour.

All arrive; the run folder is one; versions, data and models are the same; nobody of an earlier attempt is alive; each
sees its GPU; then one collective goes through. What is wrong is told once, by rank 0, with the node where it is so; of
a rank that never arrives, or a rank 0 that is none, the others tell.
"""

from __future__ import annotations

import datetime
import os
import secrets
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from align.cluster.attempt import Attempt, Rank, attempt_of, rank_of
from align.cluster.card import Card, card_of, compare
from align.cluster.meeting import Meeting, meet
from align.errors import Elsewhere, Mistakes, UserError
from align.system.files import inner_folder, replace_file
from align.system.terminal import say
from align.world.heartbeat import FOLDER

TOKEN, VERDICT = "token", "verdict"
LATER = 5.0  # seconds after the limit in which a collective that has not gone through may say so itself
GRACE = 30.0  # seconds that ranks wait longer for what rank 0 says of those that are late


@contextmanager
def preflight(recipe: Mapping[str, Any]) -> Iterator[None]:
    """Around the run, which uses the store, too. Nothing where no job asks for it.

    Mistakes with all that is wrong, on rank 0; the others end with the same code.
    """
    attempt = attempt_of()
    if attempt is None:
        yield
        return
    rank, began = rank_of(), time.monotonic()
    kept = fly(attempt, rank, recipe)
    if rank.number == 0:
        many = f"{rank.size} ranks on {max(1, len(attempt.nodes))} nodes"
        say(f"preflight: {many}, nothing wrong ({time.monotonic() - began:.1f} s)")
    yield
    del kept


def fly(attempt: Attempt, rank: Rank, recipe: Mapping[str, Any]) -> Meeting:
    with _token(attempt, rank) as written:
        meeting = meet(attempt, rank)
        if rank.number == 0:
            meeting.tell(TOKEN, [str(written), written.read_text(encoding="utf-8")])
        path, text = meeting.told(TOKEN) or ["", ""]
        own = card_of(attempt, rank, recipe, Path(path))
        meeting.tell(f"card {rank.number}", own.told())
        found: list[str] | None
        if rank.number == 0:
            found, arrived = _judge(meeting, text)
            meeting.tell(VERDICT, found)
            meeting.await_readers(VERDICT, arrived - 1 if found else 0)
        elif (found := meeting.told(VERDICT, GRACE)) is None:
            raise UserError(f"{rank.name}: rank 0{attempt.node_of(0)} came and has not said that all are well")
    if found:
        raise Mistakes(found) if rank.number == 0 else Elsewhere("rank 0 tells what is wrong", UserError.exit_code)
    if rank.size > 1:
        _collective(meeting)
    return meeting


def _judge(meeting: Meeting, token: str) -> tuple[list[str], int]:
    """By rank 0, when all have come or nobody else will: what is wrong, and how many have come."""
    attempt, size = meeting.attempt, meeting.rank.size
    cards = {r: told for r in range(size) if (told := meeting.told(f"card {r}"))}
    absent = [
        f"rank {r}{attempt.node_of(r)} has not arrived within {attempt.limit:.0f} seconds; look in the log for what "
        "ended it, and on that node"
        for r in range(size)
        if r not in cards
    ]
    return absent + compare(attempt, token, [Card(**told) for told in cards.values()]), len(cards)


@contextmanager
def _token(attempt: Attempt, rank: Rank) -> Iterator[Path]:
    """A file of rank 0's, under a name that no file system can remember as missing."""
    path = attempt.run / FOLDER / f".token-{attempt.name}-{secrets.token_hex(4)}"
    if rank.number:
        yield path
        return
    try:
        inner_folder(path.parent)
        replace_file(path, secrets.token_hex(16))
    except OSError as error:
        raise UserError(f"{rank.name}: the run folder {attempt.run} cannot be written: {error}") from None
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def _collective(meeting: Meeting) -> None:
    """The ranks see the store; that they see each other, over the network that trains, is another matter."""
    attempt, rank = meeting.attempt, meeting.rank
    backend = "nccl" if attempt.gpus else "gloo"
    device = torch.device("cuda", rank.local) if attempt.gpus else torch.device("cpu")
    told = (
        f"{rank.name}: all ranks have arrived, and a collective of {backend} has not gone through within "
        f"{attempt.limit:.0f} seconds: the nodes do not reach each other. See {backend.upper()}_SOCKET_IFNAME and the "
        "firewall"
    )
    with _ending(told, attempt.limit + LATER):  # NCCL raises nothing in time
        try:
            store = dist.PrefixStore(f"collective {attempt.name}", meeting.common.clone())
            wait = datetime.timedelta(seconds=attempt.limit)
            dist.init_process_group(backend, store=store, rank=rank.number, world_size=rank.size, timeout=wait)
            total = torch.ones(1, device=device)
            dist.all_reduce(total)
            counted = round(total.item())
            dist.destroy_process_group()
        except (dist.DistError, RuntimeError) as error:
            raise UserError(f"{told} ({str(error).splitlines()[0]})") from None
    if counted != rank.size:
        raise UserError(f"{rank.name}: a collective of {rank.size} ranks has counted {counted}")


@contextmanager
def _ending(reason: str, limit: float) -> Iterator[None]:
    """Ends this process where the block has not ended in time, whatever it waits for."""

    def end() -> None:
        say(reason, file=sys.stderr)
        os._exit(UserError.exit_code)

    timer = threading.Timer(limit, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()

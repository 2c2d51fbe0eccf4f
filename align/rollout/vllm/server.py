"""A vLLM server that a run starts and ends, and that is given new weights. See `vllm_join` for one that runs already.

Weights go through storage that both see: a folder is written, and the server told to read it (`reload_weights`, on a
CPU and on GPUs alike). vLLM's own transfer between GPUs (NCCL) is not used: it wants one process group over trainer and
server, and saves the writing and reading of one copy of the weights per experience.

What tells a server to read weights is vLLM's development interface (VLLM_SERVER_DEV_MODE=1), which anybody who reaches
the port may use: a server that is started here listens on this machine alone unless `vllm_host` says
otherwise; guard the port of one that does not.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import shlex
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from align.errors import RunError
from align.rollout.settings import RolloutSection
from align.rollout.vllm.client import Client, ServerError
from align.system.files import inner_folder, open_end
from align.system.orphans import bound

LOCAL = "127.0.0.1"
EVERYWHERE = ("0.0.0.0", "::", "")  # addresses at which one listens, and under which nobody is reached
NAME = "policy"  # under which a server that is started here serves
TAIL = 15  # lines of a log that an error shows
PATIENCE = 20.0  # seconds that a server may take to end when it is asked to
PAUSES = (0.25, 1.0, 4.0)  # seconds between tries to reset a cache that is in use
POLL = 0.25  # seconds
QUIET = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
LAUNCHERS = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_RANK", "MASTER_ADDR", "MASTER_PORT")
PREFIXES = ("TORCHELASTIC_", "ACCELERATE_", "ROLE_", "GROUP_WORLD_")  # of variables that are the trainer's own
LOADING = "loading"  # label of weights that are being read


class Running(Protocol):
    """A server that this run has started, here or (`placed`) where its job has a place for one."""

    @property
    def url(self) -> str:
        """Where it listens; empty while nobody knows."""
        ...

    @property
    def log(self) -> Path: ...

    def ended(self) -> str:
        """Why it answers no more; empty while it lives."""
        ...

    def end(self) -> None: ...


@dataclass
class Server:
    """One that answers; `process` where this run has started it."""

    client: Client
    model: str  # the name that it serves
    process: Running | None = None

    def load_weights(self, folder: Path, label: str) -> None:
        """Has it read the weights in `folder`; from then on they are labelled `label`."""
        self.client.post("/update_weight_version", {"new_version": LOADING})
        self.client.post("/collective_rpc", {"method": "reload_weights", "kwargs": {"weights_path": str(folder)}})
        self.label(label)

    def label(self, label: str) -> None:
        """Forgets what was computed with other weights, and says which they are."""
        for pause in (*PAUSES, None):
            if (self.client.post("/reset_prefix_cache", {}) or {}).get("success") is not False:
                break
            if pause is None:
                raise ServerError(f"vLLM at {self.client.url}: its prefix cache is in use by others and was not reset")
            time.sleep(pause)  # requests of a trainer that was killed are on their way out
        self.client.post("/update_weight_version", {"new_version": label})

    def close(self) -> None:
        if self.process is not None:
            self.process.end()


@dataclass
class Process:
    """A server's process and all that it started: a group of its own, so that Ctrl-C is the trainer's alone."""

    child: subprocess.Popen[bytes]
    log: Path
    url: str

    def ended(self) -> str:
        code = self.child.poll()
        if code is None:
            return ""
        how = f"by signal {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
        return f"the server that this run started ended {how}, and below is the end of {self.log}\n{tail(self.log)}"

    def end(self) -> None:
        atexit.unregister(self.end)
        if self.child.poll() is None:
            self.child.terminate()
            try:
                self.child.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait()
        with contextlib.suppress(ProcessLookupError, PermissionError):  # its workers, where it left any
            os.killpg(self.child.pid, signal.SIGKILL)


# ---- starting -------------------------------------------------------------------------------------------------------


@dataclass
class Starting:
    """A process that is to be a server."""

    process: Running
    settings: RolloutSection

    def up(self) -> Server:
        """Waits until it answers. RunError with the end of its log where it does not."""
        try:
            _wait(self.process, self.settings.vllm_server_timeout)
        except BaseException:
            self.process.end()
            raise
        asked, process = self.settings, self.process
        client = Client(process.url, asked.vllm_request_timeout, asked.vllm_retries, process.ended)
        return Server(client, NAME, self.process)


def start(settings: RolloutSection, command: str, folder: Path, arguments: Sequence[str], log: Path) -> Starting:
    """Starts one that serves the model in `folder`. It ends with the thread that has started it.

    `vllm_arguments` come after ours and win, but for where it listens: that is `vllm_host`'s to say.
    """
    host, port = settings.vllm_host, free_port()
    words = [*words_of(settings, command, folder, arguments), "--host", host, "--port", str(port)]
    reached = LOCAL if host in EVERYWHERE else host
    return Starting(launched(words, log, address(reached, port), surroundings(os.environ)), settings)


def words_of(settings: RolloutSection, command: str, folder: Path, arguments: Sequence[str]) -> list[str]:
    """A server's command line, but for where it listens."""
    words = shlex.split(command)
    model = [str(folder)] if words[-1:] == ["serve"] else ["--model", str(folder)]
    given = ("--served-model-name", NAME, "--generation-config", "vllm")
    return [*words, *model, *given, *arguments, *settings.vllm_arguments]


def launched(words: Sequence[str], log: Path, url: str, environment: Mapping[str, str]) -> Process:
    """The process, as a child of this thread, with whose end it ends."""
    inner_folder(log.parent)
    with open_end(log) as out:
        child = subprocess.Popen(
            bound(words), stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, env=dict(environment),
            start_new_session=True,
        )  # fmt: skip
    process = Process(child, log, url)
    atexit.register(process.end)
    return process


def address(host: str, port: int) -> str:
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def surroundings(environment: Mapping[str, str]) -> dict[str, str]:
    """A server's environment: without what a launcher told the trainer's processes, without telemetry."""
    kept = {k: v for k, v in environment.items() if k not in LAUNCHERS and not k.startswith(PREFIXES)}
    return {**kept, **QUIET, "VLLM_SERVER_DEV_MODE": "1"}


def _wait(process: Running, seconds: float) -> None:
    limit = time.monotonic() + seconds
    while True:
        with contextlib.suppress(ServerError):
            if url := process.url:
                Client(url, timeout=POLL * 8, retries=0).get("/health")
                return
        if reason := process.ended():
            raise RunError(f"rollout.vllm_command: {reason}")
        if time.monotonic() > limit:
            raise RunError(
                f"rollout.vllm_server_timeout: the server was not up within {seconds:g} seconds; allow it more, or see "
                f"the end of {process.log} below\n{tail(process.log)}"
            )
        time.sleep(POLL)


def free_port(host: str = LOCAL) -> int:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def tail(log: Path) -> str:
    """The last lines of a server's log."""
    text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
    return "\n".join([line for line in text.splitlines() if line.strip()][-TAIL:])

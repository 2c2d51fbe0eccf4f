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


@dataclass
class Server:
    """One that answers; `process` where it was started here."""

    client: Client
    model: str  # the name that it serves
    process: Process | None = None

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

    def ended(self) -> str:
        """Why it answers no more; empty while it lives."""
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

    process: Process
    url: str
    settings: RolloutSection

    def up(self) -> Server:
        """Waits until it answers. RunError with the end of its log where it does not."""
        try:
            _wait(self.process, self.url, self.settings.vllm_server_timeout)
        except BaseException:
            self.process.end()
            raise
        client = Client(self.url, self.settings.vllm_request_timeout, self.settings.vllm_retries, self.process.ended)
        return Server(client, NAME, self.process)


def start(settings: RolloutSection, command: str, folder: Path, arguments: Sequence[str], log: Path) -> Starting:
    """Starts one that serves the model in `folder`. It ends with the thread that has started it.

    `vllm_arguments` come after ours and win, but for where it listens: that is `vllm_host`'s to say.
    """
    host, port = settings.vllm_host, free_port()
    words = shlex.split(command)
    model = [str(folder)] if words[-1:] == ["serve"] else ["--model", str(folder)]
    given = ("--served-model-name", NAME, "--generation-config", "vllm")
    place = ("--host", host, "--port", str(port))
    inner_folder(log.parent)
    with open_end(log) as out:
        child = subprocess.Popen(
            bound([*words, *model, *given, *arguments, *settings.vllm_arguments, *place]),
            stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, env=surroundings(os.environ),
            start_new_session=True,
        )  # fmt: skip
    process = Process(child, log)
    atexit.register(process.end)
    reached = LOCAL if host in EVERYWHERE else f"[{host}]" if ":" in host else host
    return Starting(process, f"http://{reached}:{port}", settings)


def surroundings(environment: Mapping[str, str]) -> dict[str, str]:
    """A server's environment: without what a launcher told the trainer's processes, without telemetry."""
    kept = {k: v for k, v in environment.items() if k not in LAUNCHERS and not k.startswith(PREFIXES)}
    return {**kept, **QUIET, "VLLM_SERVER_DEV_MODE": "1"}


def _wait(process: Process, url: str, seconds: float) -> None:
    asking, limit = Client(url, timeout=POLL * 8, retries=0), time.monotonic() + seconds
    while True:
        try:
            asking.get("/health")
            return
        except ServerError:
            pass
        if reason := process.ended():
            raise RunError(f"rollout.vllm_command: {reason}")
        if time.monotonic() > limit:
            raise RunError(
                f"rollout.vllm_server_timeout: the server was not up within {seconds:g} seconds; allow it more, or see "
                f"the end of {process.log} below\n{tail(process.log)}"
            )
        time.sleep(POLL)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOCAL, 0))
        return int(probe.getsockname()[1])


def tail(log: Path) -> str:
    """The last lines of a server's log."""
    text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
    return "\n".join([line for line in text.splitlines() if line.strip()][-TAIL:])

"""Two nodes of Slurm on this machine: real daemons, as children, in a folder of their own."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ENDED = ("COMPLETED", "FAILED", "TIMEOUT", "CANCELLED", "NODE_FAIL", "OUT_OF_MEMORY")
DAEMONS = ("munged", "slurmctld", "slurmd")
CONF = """
ClusterName=t
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
SlurmdParameters=config_overrides
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,bf_interval=2,batch_sched_delay=1,sched_min_interval=0
ReturnToService=2
JobRequeue=1
KillWait=3
MinJobAge=3600
SlurmdTimeout=60
InactiveLimit=0
AccountingStorageType=accounting_storage/none
NodeName=n[1-2] NodeHostname={host} NodeAddr=127.0.0.1 Port=[{first}-{second}] CPUs=16 RealMemory=20000
PartitionName=all Nodes=n[1-2] Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> list[str]:
    """What is not installed: apt-get install --no-install-recommends slurm-wlm munge."""
    return [name for name in DAEMONS if shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin") is None]


@dataclass
class Cluster:
    folder: Path  # a short path: it has sockets in it
    children: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        """Of whoever submits: nothing of another cluster."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM_", "SBATCH_"))}
        return kept | {"SLURM_CONF": str(self.folder / "slurm.conf"), "OMP_NUM_THREADS": "1"}

    def ask(self, *command: str) -> str:
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout

    def state(self, job: str) -> dict[str, str]:
        words = self.ask("scontrol", "--oneliner", "show", "job", job).split()
        return dict(word.partition("=")[::2] for word in words if "=" in word)

    def wait(self, job: str, *states: str, limit: float = 300.0) -> dict[str, str]:
        """Until the job is in one of these states. A job that was put back begins at once, not in two minutes."""
        end = time.monotonic() + limit
        while True:
            found = self.state(job)
            if found["JobState"] in states:
                return found
            assert found["JobState"] not in ENDED, f"job {job}: {found['JobState']} ({found.get('Reason')})"
            assert time.monotonic() < end, f"job {job} is still {found['JobState']} ({found.get('Reason')})"
            if found["JobState"] == "PENDING" and found.get("Reason") == "BeginTime":
                time.sleep(3)  # what is begun within a second of its requeue has no valid credential
                self.ask("scontrol", "update", f"JobId={job}", "StartTime=now")
            time.sleep(0.2)

    @contextlib.contextmanager
    def starting_nothing(self) -> Iterator[None]:
        """Jobs are taken and wait; those that run go on."""
        self.ask("scontrol", "update", "PartitionName=all", "State=DOWN")
        try:
            yield
        finally:
            self.ask("scontrol", "update", "PartitionName=all", "State=UP")

    def start(self) -> None:
        for name in ("munge", "state"):
            (self.folder / name).mkdir(mode=0o755)
        (self.folder / "munge/key").write_bytes(secrets.token_bytes(1024))
        (self.folder / "munge/key").chmod(0o400)
        port, first, second = _free(3)
        ports = {"port": port, "first": first, "second": second}
        told = CONF.format(host=socket.gethostname().split(".")[0], folder=self.folder, **ports)
        (self.folder / "slurm.conf").write_text(told)
        munge = {"socket": "socket", "key-file": "key", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
        self._run("munged", "--foreground", "--force", *(f"--{k}={self.folder}/munge/{v}" for k, v in munge.items()))
        _until((self.folder / "munge/socket").exists)
        self._run("slurmctld", "-D", "-c")
        for node in ("n1", "n2"):
            self._run("slurmd", "-D", "-N", node)
        _until(lambda: self._idle() == "2")

    def stop(self) -> None:
        with contextlib.suppress(AssertionError, subprocess.TimeoutExpired):
            self.ask("scancel", "--signal=KILL", "--user=root", "--full")
        for child in reversed(self.children):
            child.terminate()
        for child in self.children:
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(10)
            child.kill()
            child.wait()

    def _run(self, *command: str) -> None:
        path = f"{os.environ['PATH']}:/usr/sbin"
        environment = {**self.environment, "PATH": path}
        quiet = subprocess.DEVNULL
        self.children.append(subprocess.Popen(command, env=environment, stdin=quiet, stdout=quiet, stderr=quiet))

    def _idle(self) -> str:
        done = subprocess.run(
            ("sinfo", "-h", "-t", "idle", "-o", "%D"), env=self.environment, capture_output=True, text=True, check=False
        )
        return done.stdout.strip()


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Cluster]:
    cluster = Cluster(folder)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


def _free(count: int) -> list[int]:
    """Ports, the last two next to each other."""
    while True:
        base = 17000 + 10 * secrets.randbelow(1000)
        try:
            for port in range(base, base + count):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port))
        except OSError:
            continue
        return [*range(base, base + count)]


def _until(true: object, limit: float = 30.0) -> None:
    end = time.monotonic() + limit
    while not true():  # type: ignore[operator]
        assert time.monotonic() < end, "Slurm did not come up"
        time.sleep(0.05)

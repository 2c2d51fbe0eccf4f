"""`environment.json`: what a run depended on beside its recipe. Names of folders and users stay out of it."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import socket
import subprocess
from pathlib import Path
from typing import Any

import torch

PACKAGES = (
    *("align-hub", "torch", "transformers", "accelerate", "peft", "datasets", "trl", "safetensors", "tokenizers"),
    *("numpy", "pydantic", "PyYAML", "deepspeed", "vllm", "flash-attn", "huggingface-hub", "jinja2", "pyarrow"),
)


def environment(*, world_size: int, sharding: str, data: str, weights: str) -> dict[str, Any]:
    """`data` and `weights` are fingerprints; `sharding` is the launcher's word (none, ddp, zero2, ...)."""
    return {
        "packages": {name: v for name in PACKAGES if (v := _version(name))},
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "host": socket.gethostname(),
        "cpu": _cpu(),
        "cpu_count": os.cpu_count(),
        "memory_mb": _memory_mb(),
        "threads": torch.get_num_threads(),
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "cuda": torch.version.cuda if torch.cuda.is_available() else None,
        "world_size": world_size,
        "sharding": sharding,
        "git_commit": git_commit(Path.cwd()),
        "data": data,
        "weights": weights,
    }


def git_commit(path: Path) -> str | None:
    """The commit checked out at `path`, with `+changes` where tracked files differ from it; None outside of git."""
    head = _git(path, "rev-parse", "HEAD")
    if not head:
        return None
    return head + ("+changes" if _git(path, "status", "--porcelain", "--untracked-files=no") else "")


def differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What has changed since a run began that may change its numbers: `torch: was 2.12, is 2.13`."""
    watched = ("python", "cpu", "cuda", "gpus", "threads")
    found = [f"{k}: was {before.get(k)}, is {now.get(k)}" for k in watched if before.get(k) != now.get(k)]
    old, new = before.get("packages", {}), now.get("packages", {})
    return found + [f"{k}: was {old.get(k)}, is {new.get(k)}" for k in sorted({*old, *new}) if old.get(k) != new.get(k)]


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _git(path: Path, *arguments: str) -> str:
    try:
        command = ["git", "-c", "core.fsmonitor=false", *arguments]  # which a repository's own settings may name
        done = subprocess.run(command, cwd=path, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((x.partition(":")[2].strip() for x in lines if x.startswith("model name")), platform.processor())


def _memory_mb() -> int | None:
    if not hasattr(os, "sysconf") or "SC_PHYS_PAGES" not in os.sysconf_names:
        return None
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2**20

"""`environment.json`: what a run depended on beside its recipe. Names of folders and users stay out of it."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from align.system.sums import digest_of, sha256_of

WATCHED = ("python", "code", "cpu", "cuda", "gpus", "threads")
PACKAGES = (
    *("align-hub", "torch", "transformers", "accelerate", "peft", "datasets", "trl", "safetensors", "tokenizers"),
    *("numpy", "pydantic", "PyYAML", "deepspeed", "vllm", "flash-attn", "huggingface-hub", "jinja2", "pyarrow"),
    "bitsandbytes",
)


# What changes the precision of arithmetic, beside the recipe: a run is not gone on with under another
PRECISION = (
    *("NVIDIA_TF32_OVERRIDE", "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE"),
    *("ONEDNN_DEFAULT_FPMATH_MODE", "DNNL_DEFAULT_FPMATH_MODE"),
)
# What may change the last bits, or the order in which a set of a user's code is gone through
VARIABLES = (
    *("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "MKL_CBWR", "MKL_ENABLE_INSTRUCTIONS"),
    *("CUBLAS_WORKSPACE_CONFIG", "NCCL_ALGO", "NCCL_PROTO", "PYTHONHASHSEED"),
)


def arithmetic(autocast: torch.dtype | None) -> dict[str, str]:
    """In which precision this process computes; `autocast` is what the recipe comes to on its device."""
    settings = {
        "autocast": str(autocast or "none").removeprefix("torch."),
        "float32_matmul": torch.get_float32_matmul_precision(),
        "default_dtype": str(torch.get_default_dtype()).removeprefix("torch."),
    }
    return settings | {name: value for name in PRECISION if (value := os.environ.get(name))}


def environment(
    *, world_size: int, sharding: str, data: str, weights: str, commits: Mapping[str, str]
) -> dict[str, Any]:
    """`data` and `weights` are fingerprints; `sharding` is the launcher's word (none, ddp, zero2, ...); `commits` are
    those of the hub's models, by the recipe's keys."""
    return {
        "packages": _packages(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "host": socket.gethostname(),
        "cpu": _cpu(),
        "cpu_count": os.cpu_count(),
        "memory_mb": _memory_mb(),
        "threads": torch.get_num_threads(),
        "variables": {name: value for name in VARIABLES if (value := os.environ.get(name))},
        "code": _code(),
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "cuda": torch.version.cuda if torch.cuda.is_available() else None,
        "world_size": world_size,
        "sharding": sharding,
        "git_commit": git_commit(Path.cwd()),
        "data": data,
        "weights": weights,
        "commits": dict(commits),
    }


def versions() -> dict[str, str]:
    """Of Python, of the packages and of this one's code: the same on all machines of a run."""
    return {"python": platform.python_version(), "the code of align": _code(), **_packages()}


def git_commit(path: Path) -> str | None:
    """The commit checked out at `path`, with `+changes` where tracked files differ from it; None outside of git."""
    head = _git(path, "rev-parse", "HEAD")
    if not head:
        return None
    return head + ("+changes" if _git(path, "status", "--porcelain", "--untracked-files=no") else "")


def differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What has changed since a run began that may change its numbers: `torch: was 2.12, is 2.13`."""
    found = [f"{k}: was {before.get(k)}, is {now.get(k)}" for k in WATCHED if k in before and before[k] != now.get(k)]
    for kind in ("variables", "packages"):
        old, new = before.get(kind, {}), now.get(kind, {})
        changed = [k for k in sorted({*old, *new}) if old.get(k) != new.get(k)]
        found += [f"{k}: was {old.get(k)}, is {new.get(k)}" for k in changed]
    return found


def _code() -> str:
    """A hash of this package as it stands, which its version does not tell of a checkout."""
    root = Path(__file__).parents[1]
    return digest_of([[p.relative_to(root).as_posix(), sha256_of(p)] for p in sorted(root.rglob("*.py"))])[:16]


def _packages() -> dict[str, str]:
    return {name: found for name in PACKAGES if (found := _version(name))}


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

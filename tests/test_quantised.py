"""What needs bitsandbytes, in a process of its own: where peft sees it, every one waits a second longer."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
APART = Path(sys.prefix, "apart")  # where `make` puts it
HERE = APART if (APART / "bitsandbytes").is_dir() else None


@pytest.mark.skipif(
    HERE is None and importlib.util.find_spec("bitsandbytes") is None, reason="no bitsandbytes: `make` installs it"
)
def test_quantised_weights_and_moments():
    places = [str(p) for p in (HERE, TESTS.parent) if p] + [p for p in (os.environ.get("PYTHONPATH"),) if p]
    environment = {**os.environ, "ALIGN_QUANTISED": "1", "PYTHONPATH": os.pathsep.join(places)}
    command = [sys.executable, "-m", "pytest", "--quiet", "-p", "no:xdist", "-p", "no:cacheprovider", "tests/quantised"]
    done = subprocess.run(command, cwd=TESTS.parent, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-4000:]

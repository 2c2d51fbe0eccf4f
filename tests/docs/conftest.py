"""The site, built once for all workers."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from filelock import FileLock

from docs.generate.__main__ import build_site


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Strictly: a warning of mkdocs fails every test that asks for it."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    with FileLock(shared / "site.lock"):
        if not (done := shared / "site.done").exists():
            build_site(shared / "site")
            done.touch()
    return shared / "site"

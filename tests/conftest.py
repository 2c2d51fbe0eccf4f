"""What must be settled before `align` is imported: shape checks, one thread, no network, a cache of our own."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["HF_HUB_OFFLINE"] = os.environ["HF_DATASETS_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = os.environ["DO_NOT_TRACK"] = "1"
os.environ["CUDA_VISIBLE_DEVICES"] = os.environ.get("CUDA_VISIBLE_DEVICES", "")
os.environ["DS_ACCELERATOR"] = "cpu"
_home = tempfile.TemporaryDirectory(prefix="align-tests-")  # removed when the interpreter ends
os.environ["ALIGN_CACHE"] = str(Path(_home.name, "cache"))
os.environ["HF_HOME"] = str(Path(_home.name, "hub"))

from jaxtyping import install_import_hook  # noqa: E402

# Where shapes are types; checks everywhere else would take as long as the tests themselves.
ROOT = Path(__file__).parents[1]
SHAPED = [p for p in ROOT.glob("align/**/*.py") if p.parent.name == "methods" or "from jaxtyping" in p.read_text()]
install_import_hook([".".join(p.relative_to(ROOT).with_suffix("").parts) for p in SHAPED], "beartype.beartype")

import pytest  # noqa: E402
import torch  # noqa: E402
from browser import PROGRAM, Browser  # noqa: E402

torch.set_num_threads(1)

collect_ignore = [] if "ALIGN_VLLM" in os.environ else ["with_vllm"]  # needs an environment: `make test-vllm`
if "ALIGN_QUANTISED" not in os.environ:
    collect_ignore.append("quantised")  # in a process of its own: tests/test_quantised.py
REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A page in a headless Chromium; without one the test is skipped."""
    if PROGRAM is None:
        pytest.skip("no Chromium here")
    with Browser() as found:
        yield found


@pytest.fixture
def repository() -> Path:
    """The root of the checkout that is tested."""
    return REPOSITORY


@pytest.fixture
def own_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Writes a module of the user's own into the test's folder, where the command is then started."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(name: str, text: str) -> None:
        (tmp_path / f"{name}.py").write_text(text)
        monkeypatch.delitem(sys.modules, name, raising=False)  # another test's

    return write


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)

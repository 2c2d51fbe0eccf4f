"""Models that come from the hub at a revision, and go there: against one that answers on this machine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_hub import FakeHub, serving
from huggingface_hub import constants, hf_hub_download
from mistakes import RECIPE, STORIES, dump, pairs

from align.cli.main import main
from align.models.sources import resolve


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """With two commits of one model: `v1`, and `main` with other weights."""
    monkeypatch.chdir(tmp_path)
    with serving() as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.endpoint)
        url = hub.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setenv("HF_HUB_OFFLINE", "0")
        monkeypatch.setenv("HF_TOKEN", "of-nobody")
        files = {p.name: p.read_bytes() for p in STORIES.iterdir() if p.suffix in (".json", ".safetensors")}
        hub.put("us/stories", files, "v1")
        weights = files["model.safetensors"]
        hub.put("us/stories", files | {"model.safetensors": weights[:-1] + bytes([weights[-1] ^ 1])})
        yield hub


def test_a_model_is_read_at_its_revision(hub: FakeHub, capsys: pytest.CaptureFixture[str]):
    old, new = hub.refs["us/stories"]["v1"], hub.refs["us/stories"]["main"]
    assert Path(resolve("us/stories")).name == new
    for name in ("v1", old):
        assert Path(resolve(f"us/stories@{name}")).name == old
    hub.put("us/stories", {}, "v1")  # who named the tag has it here by now; the commit stays what it is
    assert Path(resolve(f"us/stories@{old}"), "model.safetensors").read_bytes() == (
        STORIES / "model.safetensors"
    ).read_bytes()
    dump("rows.jsonl", *pairs(8))
    Path("mine.yaml").write_text(RECIPE.replace("asset:stories260k", f"us/stories@{old}"))
    words = ["training.max_steps=1", "model.ref_model_name_or_path=us/stories", "model.reference=copy"]
    assert main(["train", "mine.yaml", *words]) == 0
    commits = json.loads(Path("run/environment.json").read_text())["commits"]
    assert commits == {"model.model_name_or_path": old, "model.ref_model_name_or_path": new}
    capsys.readouterr()
    assert main(["check", "mine.yaml", "model.revision=v1"]) == 2
    assert "revision: here `model.model_name_or_path: NAME@REVISION`" in capsys.readouterr().err
    assert main(["chat", "us/stories@v9"]) == 2
    assert "us/stories@v9: no such folder here, and the hub answers: 404" in capsys.readouterr().err


def test_what_another_program_has_left_out_is_fetched(hub: FakeHub):
    """As where a tokenizer was asked for before. The rest is of the same commit, whatever is the newest by then."""
    first = Path(hf_hub_download("us/stories", "config.json")).parent
    assert first.name == hub.refs["us/stories"]["main"]
    hub.put("us/stories", {"config.json": b"{}"})
    hub.broken_reads = True
    assert resolve("us/stories") == str(first), "nothing better is to be had"
    hub.broken_reads = False
    assert resolve("us/stories") == str(first)
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= {p.name for p in first.iterdir()}


def test_an_export_goes_to_the_hub_and_comes_back(hub: FakeHub, capsys: pytest.CaptureFixture[str]):
    assert main(["export", str(STORIES), "out", "--push-to-hub", "us/mine", "--private"]) == 0
    assert f"on the hub: {hub.endpoint}/us/mine" in capsys.readouterr().out
    assert hub.private == {"us/mine"}
    assert Path(resolve("us/mine"), "model.safetensors").read_bytes() == Path("out/model.safetensors").read_bytes()


def test_a_push_that_fails_loses_nothing(hub: FakeHub, capsys: pytest.CaptureFixture[str],
                                         monkeypatch: pytest.MonkeyPatch):  # fmt: skip
    hub.broken = True
    assert main(["export", str(STORIES), "out", "--push-to-hub", "us/mine", "--private"]) == 1
    told = capsys.readouterr().err
    assert "Nothing is lost: out is the model. Once more: hf upload us/mine out --private" in told
    assert Path("out/model.safetensors").exists()
    for words, finding in (
        (["--push-to-hub", "us/mine@v1"], "found 'us/mine@v1'; expected NAME or OWNER/NAME"),
        (["--private"], "--private belongs to --push-to-hub"),
    ):
        assert main(["export", str(STORIES), "other", *words]) == 2
        assert finding in capsys.readouterr().err
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert main(["export", str(STORIES), "other", "--push-to-hub", "us/mine"]) == 2
    assert "it is switched off (HF_HUB_OFFLINE)" in capsys.readouterr().err
    assert not Path("other").exists()

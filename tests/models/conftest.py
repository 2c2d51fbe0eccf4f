"""Fresh models, each made once a session."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
from tiny_models import STORIES, config_of

from align.models.fresh import make_fresh
from align.models.load import load_policy
from align.models.settings import ModelSection
from align.models.tokenizer import load_tokenizer

Load = Callable[..., Any]


@pytest.fixture(scope="session")
def init_dirs(tmp_path_factory: pytest.TempPathFactory) -> Callable[[ModelSection], Path]:
    """The folder of the fresh weights of a section's config."""
    root = tmp_path_factory.mktemp("init")

    def folder(section: ModelSection) -> Path:
        bare = ModelSection(config=section.config, tokenizer_name_or_path=section.tokenizer_name_or_path)
        place = root / "-".join(str(v) for v in section.config.values() if isinstance(v, str | int | float))
        make_fresh(bare, load_tokenizer(bare), 3, place)
        return place

    return folder


@pytest.fixture(scope="session")
def load_tiny(init_dirs: Callable[[ModelSection], Path]) -> Load:
    """`load_tiny("llama", head, lora=..., changes={...})` -> (model in eval mode, tokenizer, section, folder)."""

    def load(
        model_type: str, head: Literal["lm", "scalar"] = "lm", *, changes: dict[str, Any] | None = None, **keys: Any
    ) -> tuple[Any, Any, ModelSection, Path]:
        config = config_of(model_type, **(changes or {}))
        section = ModelSection(config=config, tokenizer_name_or_path=STORIES, **keys)
        tokenizer = load_tokenizer(section, head)
        folder = init_dirs(section)
        return load_policy(section, tokenizer, head, folder).eval(), tokenizer, section, folder

    return load

"""Chat templates that a project calls by a name of its own."""

from __future__ import annotations

import re

from align.translate.draft import Draft

TALKING = ("instruct", "chat", "-it", "zephyr", "tulu")  # in the names of models that have a template


def fits(draft: Draft, word: str, own: tuple[str, ...]) -> None:
    """A family's template is the tokenizer's own, where the model is one of that family that talks."""
    name = draft.get(word)
    if name is None or name in own:
        draft.already(word, "the tokenizer's own template")
        return
    path = str(draft.get("model_name_or_path", "")).lower()
    family, model = (re.sub(r"[^a-z0-9]", "", text.lower()) for text in (str(name), path))
    if family in model and any(sign in path for sign in TALKING):
        draft.elsewhere(word, "the tokenizer's own template; `align doctor` shows what it writes")
    else:
        draft.refuse(word, f"{name}: a template is the tokenizer's own, or a Jinja file (data.chat_template)")

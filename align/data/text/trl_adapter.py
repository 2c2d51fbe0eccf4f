"""The one door to trl: its chat templates that leave earlier turns alone, for known families whose own rewrites them.

Importing trl takes seconds, so it is imported when a template has failed, not before.
"""

from __future__ import annotations

from typing import Any


def training_template(tokenizer: Any) -> str | None:
    """trl's replacement of this tokenizer's chat template for training; None where trl knows none or none is needed."""
    from trl.chat_template_utils import get_training_chat_template

    try:
        return get_training_chat_template(tokenizer)
    except Exception:  # an unknown template is a ValueError, one that refuses trl's probe anything
        return None

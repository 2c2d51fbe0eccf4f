"""A model folder, put on the hub: where that fails the folder is here, and the message says how it is tried again."""

from __future__ import annotations

from pathlib import Path

from align.errors import RunError, UserError
from align.models.sources import HUB_NAME
from align.recipe.look_at_models import offline


def refuse(name: str) -> None:
    """UserError, before any work, where a folder cannot be put under this name."""
    found = HUB_NAME.fullmatch(name)
    if found is None or found[2]:
        raise UserError(f"push to the hub: found {name!r}; expected NAME or OWNER/NAME")
    if offline():
        raise UserError("push to the hub: it is switched off (HF_HUB_OFFLINE); unset that, or push later: hf upload")


def push(folder: Path, name: str, *, private: bool | None, token: str | None = None, message: str = "") -> str:
    """Uploads all files of `folder` into the repository, which is made where there is none; returns its address.

    `private` None is the owner's default. The token is the one of `hf auth login` or HF_TOKEN where none is given.
    RunError where that fails.
    """
    from huggingface_hub import HfApi

    refuse(name)
    try:
        hub = HfApi(token=token)
        repo = hub.create_repo(name, private=private, exist_ok=True).repo_id
        hub.upload_folder(repo_id=repo, folder_path=folder, commit_message=message or f"align export of {folder.name}")
        return f"{hub.endpoint}/{repo}"
    except Exception as error:  # whatever the network and the hub raise
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        again = f"hf upload {name} {folder}" + (" --private" if private else "")
        raise RunError(
            f"push to the hub: {name}: {type(error).__name__}: {reason}. Nothing is lost: {folder} is the model. "
            f"Once more: {again}"
        ) from error

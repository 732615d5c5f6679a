"""Upload an export to a hub. No other module of xft sends data to a server."""

import json
from pathlib import Path

from xft.errors import CheckpointError, ConfigError
from xft.export.card import is_on_hub
from xft.models.adapters.saved_adapter import adapter_base, is_adapter
from xft.models.saved_model import find_saved_model, read_metadata
from xft.utils.hub_access import network_errors
from xft.utils.paths import METADATA_FILE


def check_push(name: str, source: str, merged: bool) -> None:
    """Refuse uploads that others could not use, before anything is written.

    Args:
        name: ``owner/name`` on the hub.
        source: run or model to export.
        merged: whether an adapter is merged into its base.

    Raises:
        ConfigError: the name is not a hub id, or an adapter's base model is a local folder.
    """
    if name.count("/") != 1 or not all(name.split("/")) or name != name.strip():
        raise ConfigError(key="--push", got=name, expected="OWNER/NAME")
    folder = find_saved_model(Path(source))
    if merged or not is_adapter(folder):
        return
    metadata = read_metadata(folder)
    base = metadata.base if metadata is not None else adapter_base(folder)
    if not is_on_hub(base):
        raise ConfigError(
            key="--push",
            got=f"an adapter of {Path(base).name!r}, which is not on a hub",
            expected="an adapter whose base model others can download",
            fix="add --merge to upload a full model",
        )


def push(folder: Path, name: str, public: bool = False) -> str:
    """Upload an export.

    Args:
        folder: written by ``convert``.
        name: ``owner/name``; created if it does not exist.
        public: create a public repository.

    Returns:
        URL of the repository.

    Raises:
        CheckpointError: the upload failed; the folder is unchanged.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError

    api = HfApi()
    # The metadata of a full model adds only a local path to the information in its config.
    metadata = read_metadata(folder)
    private_files = [METADATA_FILE] if metadata is not None and not is_on_hub(metadata.base) else []
    errors: tuple[type[Exception], ...] = (HfHubHTTPError, HFValidationError, LocalTokenNotFoundError)
    errors += (*network_errors(), OSError, json.JSONDecodeError)
    try:
        api.create_repo(name, private=not public, exist_ok=True)
        commit = api.upload_folder(
            repo_id=name,
            folder_path=folder,
            commit_message="Upload with xft",
            ignore_patterns=private_files,
        )
    except errors as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise CheckpointError(
            f"--push: cannot upload {name} ({reason}). The export is in {folder}; log in with `hf auth login` or "
            "set HF_TOKEN",
            key="--push",
            got=name,
        ) from error
    return str(commit.repo_url)

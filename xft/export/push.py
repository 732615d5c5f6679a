"""Put an export on a hub: the one thing here that sends something away, and only when it is asked for."""

import json
from pathlib import Path

from xft.errors import CheckpointError, ConfigError
from xft.export.card import is_on_hub
from xft.models.adapters.lora import base_of_adapter, is_adapter
from xft.models.saved_model import NOTE, find_artifact, read_note


def check_push(name: str, source: str, whole: bool) -> None:
    """Refuse what others could not use, before anything is written.

    Args:
        name: ``owner/name`` on the hub.
        source: what will be exported.
        whole: whether an adapter in it is merged.

    Raises:
        ConfigError: the name is none of a hub, or an adapter's base is a folder of this machine.
    """
    if name.count("/") != 1 or not all(name.split("/")) or name != name.strip():
        raise ConfigError(f"--push: got {name!r}, expected owner/name")
    folder = find_artifact(Path(source))
    if whole or not is_adapter(folder):
        return
    note = read_note(folder)
    base = note.base if note is not None else base_of_adapter(folder)
    if not is_on_hub(base):
        raise ConfigError(
            f"--push: the adapter belongs on {Path(base).name!r}, which is on no hub, so nobody else could use it; "
            "--merge makes a whole model of it"
        )


def push(folder: Path, name: str, public: bool = False) -> str:
    """Upload an export.

    Args:
        folder: what ``convert`` wrote.
        name: ``owner/name``; it is made where it is not there.
        public: whether everybody may see it, where it is made.

    Returns:
        Where it is.

    Raises:
        CheckpointError: the hub does not take it; the folder stays as it is.
    """
    import httpx
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError

    api = HfApi()
    # Our note of a whole model has nothing that its config does not say but a folder of this machine.
    note = read_note(folder)
    private_parts = [NOTE] if note is not None and not is_on_hub(note.base) else []
    try:
        api.create_repo(name, private=not public, exist_ok=True)
        found = api.upload_folder(
            repo_id=name,
            folder_path=folder,
            commit_message="Upload of xft",
            ignore_patterns=private_parts,
        )
    except (
        HfHubHTTPError,
        HFValidationError,
        LocalTokenNotFoundError,
        httpx.HTTPError,
        OSError,
        json.JSONDecodeError,
    ) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise CheckpointError(
            f"--push: the hub does not take {name} ({first}); the export is in {folder}, and `hf auth login` or "
            "HF_TOKEN says who you are"
        ) from error
    return str(getattr(found, "repo_url", None) or name)

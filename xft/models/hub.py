"""Where a model is: what a path of a config stands for."""

from pathlib import Path
from typing import Any

from xft.errors import ModelError
from xft.models import bundled_model
from xft.utils import paths


def resolve_path(path: str) -> str:
    """The folder, or the hub name, that ``path`` stands for.

    Raises:
        ModelError: it is neither.
    """
    if path == bundled_model.NAME:
        return str(bundled_model.materialise())
    folder = Path(path).expanduser()
    if folder.is_dir():
        return str(folder)
    if folder.exists():
        raise ModelError(f"model.path: {path} is a file, expected the folder of a model")
    if path.startswith(paths.SCHEME):
        raise ModelError(
            f"model.path: {path} is not shipped with xft; did you mean {bundled_model.NAME!r}?"
        )
    if path.startswith((".", "/", "~")) or path.count("/") != 1 or folder.parent.is_dir():
        raise ModelError(
            f"model.path: no folder {path}; expected the folder of a model, {bundled_model.NAME}, or owner/name "
            "of the hub"
        )
    return path


def hub_options(where: str, trust_remote_code: bool) -> dict[str, Any]:
    """What transformers is told beside a path: nothing is fetched for a folder."""
    return {"local_files_only": Path(where).is_dir(), "trust_remote_code": trust_remote_code}


def unreadable(what: str, path: str, error: Exception) -> str:
    """The message for a model or tokenizer that transformers cannot load."""
    first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    mend = "" if Path(path).expanduser().is_dir() else "; check the name and the network, or give a folder"
    return f"{what}: cannot load {path!r} ({first[:300]}){mend}"

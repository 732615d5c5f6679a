"""Resolve the path of a model: a folder, a bundled model, or a name of the hub."""

from pathlib import Path
from typing import Any

from xft.errors import ModelError, is_out_of_memory
from xft.models import bundled_encoder, bundled_model, modelscope
from xft.utils import paths


def resolve_path(path: str) -> str:
    """Return the folder or the hub name of a model. A model of ModelScope is downloaded first.

    Args:
        path: a folder, the name of a bundled model, ``owner/name`` of the hub, or ``modelscope://owner/name``.

    Raises:
        ModelError: ``path`` is none of them.
    """
    for bundled in (bundled_model, bundled_encoder):
        if path == bundled.NAME:
            return str(bundled.unpack())
    if path.startswith(modelscope.SCHEME):
        return modelscope.download(path)
    folder = Path(path).expanduser()
    if folder.is_dir():
        return str(folder)
    if folder.exists():
        raise ModelError(key="model.path", got=path, expected="the folder of a model, not a file")
    if path.startswith(paths.SCHEME):
        raise ModelError(
            key="model.path",
            got=path,
            expected=f"{bundled_model.NAME!r} or the vision encoder {bundled_encoder.NAME!r}",
        )
    if not paths.is_hub_name(path):
        raise paths.missing_model(path)
    return path


def hub_options(source: str, trust_remote_code: bool) -> dict[str, Any]:
    """Return keyword arguments of ``from_pretrained``. A folder allows no downloads."""
    return {"local_files_only": Path(source).is_dir(), "trust_remote_code": trust_remote_code}


def load_error(what: str, path: str, error: Exception) -> str:
    """Format the message for a model or tokenizer that transformers cannot load."""
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    fix = "" if Path(path).expanduser().is_dir() else "; check the name and the network, or give a folder"
    if is_out_of_memory(error):
        fix = "; free memory, raise the memory limit of the process, or take a smaller model"
    return f"{what}: cannot load {path!r} ({reason[:300]}){fix}"

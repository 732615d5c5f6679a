"""Download models of ModelScope: ``modelscope://owner/name`` in ``model.path``."""

import importlib
import os
from functools import lru_cache
from types import ModuleType

from xft.errors import ModelError

SCHEME = "modelscope://"


@lru_cache
def download(path: str) -> str:
    """Download a model of ModelScope into its cache, and return the folder. ``HF_HUB_OFFLINE=1`` only looks there.

    Args:
        path: ``modelscope://owner/name``.

    Raises:
        ModelError: the package ``modelscope`` is not installed, or there is no such model, or no network.
    """
    name = path.removeprefix(SCHEME)
    if name.count("/") != 1:
        raise ModelError(key="model.path", got=path, expected=f"{SCHEME}owner/name")
    offline = os.environ.get("HF_HUB_OFFLINE", "0") not in ("", "0")
    package = _package()
    try:
        folder: str = package.snapshot_download(name, local_files_only=offline)
    except Exception as error:  # requests, its own and those of the file system
        raise ModelError(
            key="model.path",
            got=f"{path} ({type(error).__name__}: {str(error).strip()[:200]})",
            expected="a model that ModelScope gives",
            fix="check the name and the network, or give a folder",
        ) from error
    return folder


def _package() -> ModuleType:
    try:
        return importlib.import_module("modelscope.hub.snapshot_download")
    except ImportError as error:
        raise ModelError(
            key="model.path",
            got=f"a path that begins with {SCHEME}, without the package modelscope",
            expected="modelscope",
            fix="pip install modelscope",
        ) from error

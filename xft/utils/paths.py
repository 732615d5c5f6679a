"""Locations of files: assets of the package, the user's cache, the shipped configs."""

import os
from pathlib import Path

from xft.errors import ConfigError, did_you_mean

PACKAGE = Path(__file__).resolve().parents[1]
SCHEME = "xft://"


def asset(name: str) -> Path:
    """Return the file that ``xft://NAME`` refers to.

    Raises:
        ConfigError: no such file is shipped with xft.
    """
    path = PACKAGE / "assets" / name
    if not path.is_file():
        known = [file.name for file in (PACKAGE / "assets").iterdir()]
        raise ConfigError(f"{SCHEME}{name} is not shipped with xft; {did_you_mean(name, known)}", got=name)
    return path


def cache_dir() -> Path:
    """Return the user's cache folder: ``$XFT_CACHE``, else ``xft`` in ``$XDG_CACHE_HOME`` or ``~/.cache``."""
    if path := os.environ.get("XFT_CACHE"):
        return Path(path).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "xft"


def configs() -> Path:
    """Return the folder of the shipped configs, in a checkout or in an installed package."""
    checkout = PACKAGE.parent / "configs"
    return checkout if checkout.is_dir() else PACKAGE / "configs"


def bundled_model() -> Path:
    """Return the folder that the bundled model is unpacked into."""
    return cache_dir() / "models" / "smollm2-135m-instruct-q4_1"

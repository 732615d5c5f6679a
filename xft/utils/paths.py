"""Where things are: files shipped with xft, the user's cache, the configs."""

import os
from pathlib import Path

from xft.errors import ConfigError, nearest

PACKAGE = Path(__file__).resolve().parents[1]
SCHEME = "xft://"


def asset(name: str) -> Path:
    """The file shipped with xft that ``xft://NAME`` stands for.

    Raises:
        ConfigError: there is no such file.
    """
    path = PACKAGE / "assets" / name
    if not path.is_file():
        known = [each.name for each in (PACKAGE / "assets").iterdir()]
        raise ConfigError(f"{SCHEME}{name} is not shipped with xft; {nearest(name, known)}")
    return path


def cache() -> Path:
    """The user's cache folder: ``$XFT_CACHE``, or ``xft`` in the platform's usual place."""
    if given := os.environ.get("XFT_CACHE"):
        return Path(given).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "xft"


def configs() -> Path:
    """The folder of the shipped configs, in a checkout or in an installed package."""
    checkout = PACKAGE.parent / "configs"
    return checkout if checkout.is_dir() else PACKAGE / "configs"


def embedded_model() -> Path:
    """Where the embedded model is, once it is unpacked."""
    return cache() / "models" / "smollm2-135m-instruct-q4_1"

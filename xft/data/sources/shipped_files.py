"""Find the file that ``xft://NAME`` refers to: an asset of xft, or one that is made from a package."""

from pathlib import Path

from xft.data.emoji import rows as emoji_rows
from xft.utils import paths


def shipped_file(name: str) -> Path:
    """Return the file that ``xft://NAME`` refers to. Files about emoji are made at the first call.

    Raises:
        ConfigError: there is no such file.
        DataError: it is made from a package that is not installed.
    """
    return emoji_rows.unpack(name) if name in emoji_rows.NAMES else paths.asset(name)


def resolve_file(path: str) -> Path:
    """Return the file of a path or of ``xft://NAME``.

    Raises:
        ConfigError, DataError: as for :func:`shipped_file`.
    """
    return shipped_file(path.removeprefix(paths.SCHEME)) if path.startswith(paths.SCHEME) else Path(path)

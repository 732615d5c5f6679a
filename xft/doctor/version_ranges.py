"""The libraries that xft was tested with. Their one home is ``requirements/*.txt``.

In a checkout these files are read; in an installed package, what pip wrote down of them.
"""

from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from xft.utils import paths

DISTRIBUTION = "xft-tuner"
RUNTIME = "runtime"
EXTRAS = ("logging", "swanlab", "deepspeed", "serve", "gguf", "eval")


def ranges(root: Path = paths.PACKAGE.parent) -> dict[str, list[str]]:
    """Requirements such as ``torch>=2.6,<2.14`` by group: ``runtime``, and each of the extras.

    Args:
        root: where a checkout would be.

    Raises:
        LookupError: neither a checkout nor an installed package is here.
    """
    folder = root / "requirements"
    if (folder / f"{RUNTIME}.txt").is_file():
        return {name: list(_in_file(folder / f"{name}.txt")) for name in (RUNTIME, *EXTRAS)}
    try:
        written = metadata.requires(DISTRIBUTION) or []
    except metadata.PackageNotFoundError as error:
        raise LookupError(f"{DISTRIBUTION} is not installed, and {folder} does not exist") from error
    return {name: list(_of_group(written, name)) for name in (RUNTIME, *EXTRAS)}


def _in_file(path: Path) -> Iterator[str]:
    for line in path.read_text(encoding="utf-8").splitlines():
        text = line.partition("#")[0].strip()
        if text and not text.startswith("-"):
            yield text


def _of_group(written: list[str], group: str) -> Iterator[str]:
    for line in written:
        text, _, marker = line.partition(";")
        wanted = (
            f'extra == "{group}"' in marker.replace("'", '"') if group != RUNTIME else not marker.strip()
        )
        if wanted:
            yield text.strip()

"""The data report as a page: one file that opens from the disk, in which any sample can be looked at.

Few samples stand in the page itself. Many stand in script files in a folder beside it, which the
page loads when it shows them: a script may be loaded from the disk where other files may not.

Rows are strangers' text, so nothing of them is ever markup: tables are escaped here, samples
travel as JSON in which no ``<`` is left and are shown as text nodes, and the page's own security
policy lets no script run but the page's and those it loads, and nothing come from a network.
"""

import json
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tqdm import tqdm

from xft.data import Prepared, Samples
from xft.errors import ConfigError
from xft.reporting.data_page_sections import parts_of
from xft.reporting.html import fill, style, text
from xft.reporting.inspect_samples import Reader, side
from xft.run_config.config import Recipe
from xft.types import Tokenizer
from xft.utils import paths
from xft.version import __version__

EMBEDDED = 2000
"""The most rows of samples that stand in the page itself."""
_EMBEDDED_TOKENS = 5_000_000
PORTION = 500
"""The most rows of samples in one file beside the page."""
_PORTION_TOKENS = 1_000_000
_MARK = '<meta name="generator" content="xft inspect-data">'
Item = dict[str, Any]
"""What the page knows of one row of samples: ``origin``, and ``sides``, one a sample, each with
``name``, ``tokens``, ``trained`` and ``runs``: ``[mark, text, ids]``. Bit 0 of the mark says
whether the run is trained, bit 1 whether it is a special token."""


def check_target(target: str | Path) -> Path:
    """Check that a page can be written to a file, before anything slow is done.

    Raises:
        ConfigError: it cannot, or something else than a page of ours would be overwritten.
    """
    path = Path(target)
    if path.is_dir() or not path.parent.is_dir() or not os.access(path.parent, os.W_OK | os.X_OK):
        raise ConfigError(
            f"--html: cannot write {path}, expected a file in a folder that exists and can be written to"
        )
    if path.exists():
        with path.open("rb") as file:
            ours = _MARK.encode() in file.read(1000)
        if not ours:
            raise ConfigError(
                f"--html: {path} exists and is not a page of inspect-data; choose another name, or delete it"
            )
    folder = _beside(path)
    if folder.exists() and not _is_ours(folder):
        raise ConfigError(
            f"--html: {folder} exists and holds other files than samples; choose another name"
        )
    return path


def write_page(
    target: str | Path,
    title: str,
    prepared: Prepared,
    tokenizer: Tokenizer,
    recipe: Recipe | None = None,
    *,
    embedded: int = EMBEDDED,
    portion: int = PORTION,
) -> list[Path]:
    """Write the page, and the folder beside it where there are many samples.

    Args:
        target: the page; an earlier page is replaced, with its folder.
        title: what the page is of, for its heading.
        prepared: the data.
        tokenizer: turns tokens back into text.
        recipe: of the run; where it is given and packs, the page says how full the rows are.
        embedded: the most rows of samples in the page itself.
        portion: the most rows of samples in a file beside it.

    Returns:
        The files that were written, the page first.

    Raises:
        ConfigError: they cannot be written.
    """
    path = check_target(target)
    reader = Reader(tokenizer)
    splits = {"train": prepared.train, "val": prepared.val}
    rows = sum(len(each) for each in splits.values()) // prepared.samples_per_example
    tokens = sum(int(each.lengths.sum()) for each in splits.values())
    try:
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.stem}-") as room:
            folder = Path(room) / "samples"
            with tqdm(total=rows, unit="row", desc="writing samples", disable=None, leave=False) as bar:
                if rows <= embedded and tokens <= _EMBEDDED_TOKENS:
                    data = _embed(splits, prepared.samples_per_example, reader, bar)
                else:
                    data = _spread(splits, prepared.samples_per_example, reader, bar, folder, portion)
            data["folder"] = quote(_beside(path).name)
            page = Path(room) / "page"
            page.write_bytes(_fill(title, prepared, recipe, data).encode("utf-8", "backslashreplace"))
            if _beside(path).exists():
                shutil.rmtree(_beside(path))
            if folder.exists():
                folder.replace(_beside(path))
            page.replace(path)
    except OSError as error:
        raise ConfigError(f"--html: cannot write {path} ({error.strerror})") from error
    return [path, *(sorted(_beside(path).iterdir()) if _beside(path).exists() else [])]


def _beside(path: Path) -> Path:
    return path.with_name(f"{path.stem}_samples")


def _is_ours(folder: Path) -> bool:
    return folder.is_dir() and all(re.fullmatch(r"\d+\.js", each.name) for each in folder.iterdir())


def items(samples: Samples, unit: int, reader: Reader, first: int, last: int) -> Iterator[Item]:
    """The rows of samples from number ``first`` up to ``last``, as the page takes them.

    Args:
        samples: a split.
        unit: how many neighbouring samples are a row.
        reader: turns tokens back into text.
        first, last: counted in rows from 0; ``last`` is not among them.
    """
    for row in range(first, last):
        sides = []
        for at in range(unit):
            sample = samples[row * unit + at]
            runs = [
                [int(each.trained) + 2 * int(each.special), each.text, each.ids]
                for each in reader.runs(sample)
            ]
            sides.append(
                {
                    "name": side(sample, at, unit),
                    "tokens": len(sample),
                    "trained": sample.num_targets,
                    "runs": runs,
                }
            )
        yield {"origin": samples.origin(row * unit), "sides": sides}


def _embed(splits: dict[str, Samples], unit: int, reader: Reader, bar: Any) -> dict[str, Any]:
    """All samples for the page itself."""
    out: dict[str, Any] = {"unit": unit, "splits": {}, "embedded": {}}
    for name, samples in splits.items():
        count = len(samples) // unit
        out["splits"][name] = {"count": count, "begins": [0], "files": [name]}
        out["embedded"][name] = []
        for each in items(samples, unit, reader, 0, count):
            out["embedded"][name].append(each)
            bar.update()
    return out


def _spread(
    splits: dict[str, Samples], unit: int, reader: Reader, bar: Any, folder: Path, portion: int
) -> dict[str, Any]:
    """Write samples into files of a folder; what the page must know of these."""
    folder.mkdir()
    out: dict[str, Any] = {"unit": unit, "splits": {}, "embedded": {}}
    number = 0
    for name, samples in splits.items():
        lengths = samples.lengths.reshape(-1, unit).sum(axis=1).tolist()
        begins = _portions(lengths, portion)
        files = []
        for first, last in pairwise([*begins, len(lengths)]):
            number += 1
            files.append(f"{number:04}.js")
            with (folder / files[-1]).open("w", encoding="ascii") as file:
                file.write(f'xftSamples("{files[-1]}",[\n')
                for at, each in enumerate(items(samples, unit, reader, first, last)):
                    file.write((",\n" if at else "") + as_script(each))
                    bar.update()
                file.write("\n]);\n")
        out["splits"][name] = {"count": len(lengths), "begins": begins, "files": files}
    return out


def _portions(lengths: Sequence[int], most: int) -> list[int]:
    """Where files begin: each has at most ``most`` rows, and not many more tokens than it may."""
    begins: list[int] = []
    tokens = 0
    for at, length in enumerate(lengths):
        if not begins or at - begins[-1] == most or tokens + length > _PORTION_TOKENS:
            begins.append(at)
            tokens = 0
        tokens += length
    return begins


def as_script(value: Any) -> str:
    """JSON that may stand in a script of a page: ASCII, and without the character that could end it."""
    return json.dumps(value, separators=(",", ":")).replace("<", "\\u003c")


def _fill(title: str, prepared: Prepared, recipe: Recipe | None, data: dict[str, Any]) -> str:
    parts = {
        "mark": _MARK,
        "title": text(title),
        "nonce": secrets.token_urlsafe(16),
        "version": __version__,
        **parts_of(prepared, recipe),
        "data": as_script(data),
        "style": style("page", "data_page"),
        "script": (paths.PACKAGE / "assets" / "data_page.js").read_text(encoding="utf-8"),
    }
    return fill("data_page", parts)

"""Write the page of prepared data: the summary, and a browser of all samples.

A page with few samples embeds them. Otherwise they are written to script files in a folder next to the
page, which loads them on demand: browsers load scripts from disk, but not other files.

Samples are untrusted text. They travel as JSON without any ``<`` and are shown as text nodes, and the content
security policy permits only the page's own scripts and no network access.
"""

import json
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import quote

from markupsafe import Markup
from rich.progress import Progress

from xft.data import PreparedData, SampleView
from xft.errors import ConfigError
from xft.reporting.data_summary import summarize_data
from xft.reporting.html import render, was_generated_by
from xft.reporting.inspect_samples import SampleDecoder, image_label, pair_label
from xft.reporting.thumbnails import thumbnail
from xft.run_config.config import RunConfig
from xft.types import ImageProcessor, Tokenizer
from xft.utils.temporary_folder import temporary_folder

MAX_EMBEDDED = 2000
"""Maximum number of examples that are embedded in the page."""
_MAX_EMBEDDED_TOKENS = 5_000_000
CHUNK_EXAMPLES = 500
"""Maximum number of examples per script file."""
_CHUNK_TOKENS = 1_000_000
GENERATOR = "xft inspect-data"
Item = dict[str, Any]
"""One example in the page: ``origin``, and ``sides`` with one entry per sample: ``name``, ``tokens``,
``targets`` and ``spans``, each ``[flags, text, ids]``. Bit 0 of the flags marks targets, bit 1 special
tokens. Of a model that sees images, also ``images``, each a thumbnail and a label."""
ReadItems = Callable[[SampleView, int, int], Iterable[Item]]
"""Reads the examples from the second to the third argument (exclusive) of a split."""


def check_target(target: str | Path) -> Path:
    """Check that a page can be written, before slow work.

    Raises:
        ConfigError: the folder is missing or not writable, or a file of another program is in the way.
    """
    path = Path(target)
    if path.is_dir() or not path.parent.is_dir() or not os.access(path.parent, os.W_OK | os.X_OK):
        raise ConfigError(key="--html", got=str(path), expected="a file in an existing, writable folder")
    if path.exists() and not was_generated_by(path, GENERATOR):
        raise ConfigError(
            key="--html",
            got=f"{path}, an existing file of another program",
            expected=f"a new file, or a page of {GENERATOR}",
            fix="choose another name, or delete the file",
        )
    folder = _assets_dir(path)
    if folder.exists() and not _was_generated_by_xft(folder):
        raise ConfigError(
            key="--html",
            got=f"{folder}, a folder with other files",
            expected="a free name, or a folder of an earlier page",
            fix="choose another name",
        )
    return path


def write_data_page(
    target: str | Path,
    title: str,
    prepared: PreparedData,
    tokenizer: Tokenizer,
    recipe: RunConfig | None = None,
    processor: ImageProcessor | None = None,
    *,
    max_embedded: int = MAX_EMBEDDED,
    chunk_examples: int = CHUNK_EXAMPLES,
) -> list[Path]:
    """Write the page, and a folder of samples next to it if there are many.

    Args:
        target: path of the page; an earlier page and its folder are replaced.
        title: of the page.
        prepared: the data.
        tokenizer: decodes the samples.
        recipe: config of the run; adds the packing to the summary.
        processor: image processor of the model; ``None`` for a text model.
        max_embedded: maximum number of examples that are embedded in the page.
        chunk_examples: maximum number of examples per script file.

    Returns:
        The written files, starting with the page.

    Raises:
        ConfigError: the files cannot be written.
    """
    path = check_target(target)
    decoder = SampleDecoder(tokenizer, () if processor is None else processor.token_ids)
    unit = prepared.samples_per_example
    read = partial(items, samples_per_example=unit, decoder=decoder, processor=processor)
    splits = {"train": prepared.train, "val": prepared.val}
    examples = sum(len(samples) for samples in splits.values()) // unit
    tokens = sum(int(samples.lengths.sum()) for samples in splits.values())
    assets = _assets_dir(path)
    try:
        with temporary_folder(path) as temporary:
            folder = temporary / "samples"
            with Progress(transient=True) as progress:
                task = progress.add_task("writing samples", total=examples)
                advance = lambda: progress.advance(task)  # noqa: E731
                if examples <= max_embedded and tokens <= _MAX_EMBEDDED_TOKENS:
                    data = _inline_data(splits, unit, read, advance)
                else:
                    data = _write_data_chunks(splits, unit, read, advance, folder, chunk_examples)
            data["folder"] = quote(assets.name)
            page = temporary / "page"
            page.write_text(_render_page(title, prepared, recipe, data), encoding="utf-8")
            if assets.exists():
                shutil.rmtree(assets)
            if folder.exists():
                folder.replace(assets)
            page.replace(path)
    except OSError as error:
        raise ConfigError(f"--html: cannot write {path} ({error.strerror})", key="--html") from error
    return [path, *(sorted(assets.iterdir()) if assets.exists() else [])]


def _assets_dir(path: Path) -> Path:
    return path.with_name(f"{path.stem}_samples")


def _was_generated_by_xft(folder: Path) -> bool:
    return folder.is_dir() and all(re.fullmatch(r"\d+\.js", file.name) for file in folder.iterdir())


def items(
    samples: SampleView,
    first: int,
    last: int,
    samples_per_example: int,
    decoder: SampleDecoder,
    processor: ImageProcessor | None,
) -> Iterator[Item]:
    """Yield examples ``first`` to ``last`` (exclusive) of a split as the page reads them."""
    for example in range(first, last):
        sides = []
        for index in range(samples_per_example):
            sample = samples[example * samples_per_example + index]
            spans = [
                [int(span.is_target) + 2 * int(span.is_special), span.text, span.ids]
                for span in decoder.spans(sample)
            ]
            name = pair_label(sample, index, samples_per_example)
            side = {"name": name, "tokens": len(sample), "targets": sample.num_targets, "spans": spans}
            if processor is not None:
                side["images"] = [
                    [thumbnail(image), image_label(image, processor)] for image in sample.images
                ]
            sides.append(side)
        yield {"origin": samples.origin(example * samples_per_example), "sides": sides}


def _inline_data(
    splits: dict[str, SampleView],
    samples_per_example: int,
    read: ReadItems,
    advance: Callable[[], None],
) -> dict[str, Any]:
    """Return the data of a page that embeds all samples."""
    data: dict[str, Any] = {"unit": samples_per_example, "splits": {}, "embedded": {}}
    for name, samples in splits.items():
        count = len(samples) // samples_per_example
        data["splits"][name] = {"count": count, "begins": [0], "files": [name]}
        data["embedded"][name] = []
        for item in read(samples, 0, count):
            data["embedded"][name].append(item)
            advance()
    return data


def _write_data_chunks(
    splits: dict[str, SampleView],
    samples_per_example: int,
    read: ReadItems,
    advance: Callable[[], None],
    folder: Path,
    chunk_examples: int,
) -> dict[str, Any]:
    """Write the samples to script files, and return the data of a page that loads them."""
    folder.mkdir()
    data: dict[str, Any] = {"unit": samples_per_example, "splits": {}, "embedded": {}}
    number = 0
    for name, samples in splits.items():
        lengths = samples.lengths.reshape(-1, samples_per_example).sum(axis=1).tolist()
        begins = _chunk_begins(lengths, chunk_examples)
        files = []
        for first, last in pairwise([*begins, len(lengths)]):
            number += 1
            files.append(f"{number:04}.js")
            with (folder / files[-1]).open("w", encoding="ascii") as file:
                file.write(f'xftSamples("{files[-1]}",[\n')
                for index, item in enumerate(read(samples, first, last)):
                    file.write((",\n" if index else "") + as_script(item))
                    advance()
                file.write("\n]);\n")
        data["splits"][name] = {"count": len(lengths), "begins": begins, "files": files}
    return data


def _chunk_begins(lengths: Sequence[int], max_examples: int) -> list[int]:
    """Return the first example of each file, given the tokens of each example."""
    begins: list[int] = []
    tokens = 0
    for index, length in enumerate(lengths):
        if not begins or index - begins[-1] == max_examples or tokens + length > _CHUNK_TOKENS:
            begins.append(index)
            tokens = 0
        tokens += length
    return begins


def as_script(value: object) -> str:
    """Return ASCII JSON without ``<``, which cannot end a script element."""
    return json.dumps(value, separators=(",", ":")).replace("<", "\\u003c")


def _render_page(title: str, prepared: PreparedData, recipe: RunConfig | None, data: dict[str, Any]) -> str:
    return render(
        "data_page.html.j2",
        generator=GENERATOR,
        title=title,
        nonce=secrets.token_urlsafe(16),
        summary=summarize_data(prepared, recipe),
        samples_json=Markup(as_script(data)),
    )

"""What is known of rows before they are prepared: kind, format, number and lengths."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from xft.data.config.auto_format import check_fit, choose_format, sample_rows
from xft.data.config.kinds import (
    InstructionData,
    PreferenceData,
    PromptData,
    TextData,
    UnpairedPreferenceData,
)
from xft.data.encoding.encoded import EncodingOptions
from xft.data.formats.detect import bound_format, format_override
from xft.data.formats.detect_rules import Spec
from xft.data.formats.trial import apply_format
from xft.data.formats.turns_as_text import find_turn_columns, mark_turn_columns
from xft.data.sources import DataSource, RecordReader, parse, resolve_source
from xft.errors import DataError
from xft.templates import BoundTemplate
from xft.types import PreferencePair, Tokenizer, UnpairedExample

SAMPLED_ROWS = 1000
"""Rows whose lengths are measured."""
CHARS_PER_TOKEN = 3.0
"""Characters of a token, where there is no tokenizer; 1 outside ASCII."""
KINDS = {
    kind.row_kind: kind
    for kind in (InstructionData, TextData, PreferenceData, UnpairedPreferenceData, PromptData)
}
GUESSED = ("instruction", "preference", "unpaired_preference", "text")
"""Kinds that are tried in this order for rows of an unknown kind."""

MADE: dict[type, str] = {PreferencePair: "preference", UnpairedExample: "unpaired_preference", str: "text"}
"""What a format makes of a row of a kind; messages are instruction data."""


@dataclass(frozen=True)
class RowFacts:
    """Rows of a source.

    Attributes:
        path: path of the rows.
        kind: ``data.type``.
        spec: format.
        count: number of rows; ``None`` if it is not known.
        lengths: sorted numbers of tokens of some rows; those of a pair are those of the longer answer.
        is_measured: whether a tokenizer has counted them.
    """

    path: str
    kind: str
    spec: Spec
    count: int | None
    lengths: Sequence[int]
    is_measured: bool

    def percentile(self, percent: float) -> int:
        """Return a percentile of the lengths."""
        return int(np.percentile(self.lengths, percent)) if self.lengths else 0


def inspect_rows(
    path: str,
    kind: str | None,
    tokenizer: Tokenizer | None,
    template: BoundTemplate | None,
    format: str | Mapping[str, Any] | None = None,
) -> RowFacts:
    """Look at the rows of a source.

    Args:
        path: as in ``data.path``.
        kind: ``data.type``; ``None`` chooses it by the rows.
        tokenizer: of the model; ``None`` estimates lengths from characters.
        template: chat template; ``None`` without one.
        format: as in ``data.format``; ``None`` chooses it by the rows.

    Raises:
        ConfigError: the source does not exist.
        DataError: no format fits.
    """
    source = resolve_source(path)
    kind, spec = _choose(source, kind) if format is None else _choose_kind(source, kind, format)
    reader = RecordReader(source, streaming=True)
    columns = find_turn_columns(source, streaming=True)
    records = list(islice(mark_turn_columns(reader, source, columns), SAMPLED_ROWS))
    count = None if source.hub is not None else sum(1 for _ in RecordReader(source))
    if tokenizer is not None and (template is not None or kind == "text"):
        options = EncodingOptions(bound_format(spec), 10**9, on_invalid="quarantine")
        chunk = KINDS[kind].encoder(options, tokenizer, template)(records)
        lengths = sorted(int(length) // KINDS[kind].samples_per_example for length in chunk.rows["length"])
        return RowFacts(path, kind, spec, count, lengths, True)
    lengths = []
    for location, raw in records:
        try:
            lengths.append(_estimate(parse(location, raw)))
        except DataError:  # an invalid row, which the preparation reports
            continue
    return RowFacts(path, kind, spec, count, sorted(lengths), False)


def _choose(source: DataSource, kind: str | None) -> tuple[str, Spec]:
    if kind is not None:
        return kind, choose_format([source], kind, streaming=True, on_invalid="quarantine")
    errors = []
    for guess in GUESSED:
        try:
            return guess, choose_format([source], guess, streaming=True, on_invalid="quarantine")
        except DataError as error:
            errors.append(error)
    raise errors[0]


def _choose_kind(source: DataSource, kind: str | None, format: str | Mapping[str, Any]) -> tuple[str, Spec]:
    """Choose the kind of the first row that a given format reads."""
    spec: Spec = {"type": format} if isinstance(format, str) else dict(format)
    function, sample = bound_format(spec), sample_rows(source, streaming=True)
    for row in sample.rows if kind is None else ():
        try:
            value = apply_format(function, row)
        except DataError:
            continue
        kind = next((name for made, name in MADE.items() if isinstance(value, made)), "instruction")
        break
    if kind is None:
        check_fit(source, sample, "instruction", function, format_override(spec), "error")
    return kind or "instruction", spec


def _estimate(row: dict[str, Any]) -> int:
    """Estimate the tokens of a row from its characters."""
    text = json.dumps(row, ensure_ascii=False, default=str)
    num_ascii = sum(map(str.isascii, text))
    return round(num_ascii / CHARS_PER_TOKEN + len(text) - num_ascii)

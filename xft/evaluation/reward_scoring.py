"""Score rows with a reward model, in its training template."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

import torch

from xft.config import build_component
from xft.data import Collator
from xft.data.encoding.encoded import EncodingOptions, OverlongRow
from xft.data.encoding.encoders import ConversationEncoder, PreferenceEncoder, UnpairedEncoder
from xft.data.encoding.row_encoder import RowEncoder
from xft.data.encoding.tokenize import encode_conversations
from xft.data.formats import alpaca, kto, openai, preference, sharegpt
from xft.data.formats.system_text import insert_system, with_system
from xft.data.formats.turns_as_text import mark_turn_columns
from xft.data.sources import DataSource, RecordReader, RowLocation, parse, resolve_source
from xft.errors import ConfigError, DataError, ModelError
from xft.models import LoadedModel, load_saved_model
from xft.models.families import context_length
from xft.models.scoring import eval_mode, reward_scores
from xft.templates import BoundTemplate
from xft.types import Conversation, Messages, PreferencePair, Row, Sample, UnpairedExample

CHUNK_ROWS = 256
"""Rows that are read, encoded and scored together."""
FORMATS_BY_COLUMNS = (
    (("chosen", "rejected"), preference),
    (("messages",), openai),
    (("conversations",), sharegpt),
    (("instruction", "output"), alpaca),
)
"""Columns and the format of rows that have them; the first match is taken."""


@dataclass(frozen=True, slots=True)
class ScoredRow:
    """Scores of a row.

    Attributes:
        origin: file and line of the row.
        scores: one score; two for a preference pair, chosen first.
    """

    origin: RowLocation
    scores: tuple[float, ...]

    @property
    def margin(self) -> float | None:
        """Score of the chosen answer minus that of the rejected one; ``None`` without a pair."""
        return self.scores[0] - self.scores[1] if len(self.scores) == 2 else None

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON record of the row."""
        place = {"file": self.origin.file, self.origin.number_key: self.origin.line}
        if self.margin is None:
            return place | {"score": self.scores[0]}
        return place | {"chosen": self.scores[0], "rejected": self.scores[1], "margin": self.margin}

    def __str__(self) -> str:
        if self.margin is None:
            return f"{self.origin}  score {self.scores[0]:.4f}"
        chosen, rejected = self.scores
        mark = "✓" if self.margin > 0 else "✗"
        return (
            f"{self.origin}  chosen {chosen:.4f}  rejected {rejected:.4f}  margin {self.margin:+.4f} {mark}"
        )


class RewardScorer:
    """Score rows.

    Args:
        loaded: a reward model.
        format: format of the rows; ``None`` chooses by the columns of each row.

    Raises:
        ModelError: The tokenizer has no chat template.
    """

    def __init__(self, loaded: LoadedModel, format: Any = None) -> None:
        source = loaded.tokenizer.chat_template
        if not isinstance(source, str):
            raise ModelError(
                "the tokenizer has no chat template, so the format of the training data is unknown; save the template "
                "next to it as chat_template.jinja",
                key="chat_template",
            )
        self.loaded = loaded
        self.format = format or format_by_columns
        if loaded.system:
            self.format = partial(with_system, self.format, loaded.system)
        template = BoundTemplate(loaded.tokenizer, source)
        max_length = context_length(loaded.base.config) or 10**9
        shared = (EncodingOptions(self.format, max_length), loaded.tokenizer, template)
        self._encoders: dict[type, RowEncoder[Any]] = {
            PreferencePair: PreferenceEncoder(*shared),
            UnpairedExample: UnpairedEncoder(*shared),
        }
        self._conversation_encoder: RowEncoder[Any] = ConversationEncoder(*shared)

    def rate(self, location: DataSource) -> Iterator[ScoredRow]:
        """Score all rows of a location, in order.

        Raises:
            DataError: A row cannot be read, or has no answer to score.
        """
        records = iter(mark_turn_columns(RecordReader(location), location))
        while chunk := list(islice(records, CHUNK_ROWS)):
            rows = [(origin, self._encode(origin, parse(origin, raw))) for origin, raw in chunk]
            scores = iter(self._score([sample for _, samples in rows for sample in samples]))
            for origin, samples in rows:
                yield ScoredRow(origin, tuple(islice(scores, len(samples))))

    def _encode(self, origin: RowLocation, row: Row) -> list[Sample]:
        try:
            value = self._conversation_encoder.apply_format(row)
            encoder = self._encoders.get(type(value), self._conversation_encoder)
            accepted = encoder.validate(value, row)
            for messages in _completions(accepted):
                if messages[-1].role != "assistant":
                    raise DataError(
                        f"the last message is from the {messages[-1].role}; expected an answer to score"
                    )
            (encoded,) = encoder.encode([accepted])
        except DataError as error:
            raise error.prefixed(origin) from error
        if isinstance(encoded, OverlongRow):
            raise DataError(
                f"{origin}: has {encoded.num_tokens} tokens; the model supports at most {encoder.options.max_length}"
            )
        if isinstance(encoded, DataError):
            raise encoded.prefixed(origin) from encoded
        return encoded.samples

    def score_conversations(self, conversations: Sequence[Conversation]) -> list[float]:
        """Score the last message of conversations.

        Raises:
            DataError: a conversation does not fit the template.
        """
        system, encoder = self.loaded.system, self._conversation_encoder
        conversations = [
            replace(one, messages=insert_system(one.messages, system)) for one in conversations
        ]
        assert encoder.template is not None
        samples = encode_conversations(conversations, encoder.template, encoder.tokenizer)
        for sample in samples:
            if isinstance(sample, DataError):
                raise sample
        return self._score([sample for sample in samples if isinstance(sample, Sample)])

    def _score(self, samples: Sequence[Sample]) -> list[float]:
        model = self.loaded.model
        collator = Collator.for_model(self.loaded.tokenizer, self.loaded.supports_packing)
        scores: list[float] = []
        with eval_mode(model):
            for batch in collator.iter_batches(samples):
                scores += reward_scores(model, batch.to(self.loaded.base.device)).tolist()
        return scores


def score_rows(
    path: str,
    rows: str,
    format: str | None = None,
    out: str | None = None,
    bits: int | None = None,
    trust_remote_code: bool = False,
) -> Iterator[str]:
    """Score rows with a saved reward model.

    Args:
        path: run folder, checkpoint, adapter or reward model.
        rows: rows, as in ``data.path``.
        format: format of the rows; chosen by the columns by default.
        out: file to write, one JSON object per row.
        bits: load the base model quantized to 4 or 8 bits.
        trust_remote_code: run Python code shipped with the weights.

    Yields:
        One line per row, unless ``out`` is given; then a summary.

    Raises:
        ConfigError: ``rows`` does not exist, ``out`` exists, or ``format`` is unknown.
        ModelError: ``path`` is not a reward model.
        DataError: A row does not fit the format.
    """
    location = resolve_source(rows)
    row_format = None if format is None else build_component("format", format)
    if out is not None and Path(out).exists():
        raise ConfigError(f"--out: {out} exists; choose another file", key="--out", got=out)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    loaded = load_saved_model(
        path, bits=bits, device=device, trust_remote_code=trust_remote_code, kind="reward_model"
    )
    rater = RewardScorer(loaded, row_format)
    if out is None:
        yield from _lines(rater.rate(location), None)
        return
    # Write to a temporary name: an incomplete file must not pass for a complete one.
    target = Path(out).absolute()
    part = target.with_name(f".{target.name}.part")
    try:
        with part.open("w", encoding="utf-8") as file:
            yield from _lines(rater.rate(location), file)
        part.rename(target)
    except OSError as error:
        raise ConfigError(f"--out: cannot write {out} ({error.strerror})", key="--out", got=out) from error
    finally:
        part.unlink(missing_ok=True)


def format_by_columns(row: Row) -> Any:
    """Convert a row with the format that its columns indicate.

    Raises:
        DataError: No format has these columns.
    """
    for columns, row_format in FORMATS_BY_COLUMNS:
        if all(row.get(column) is not None for column in columns):
            return row_format(row)
    if row.get("prompt") is not None and row.get("completion") is not None:
        return kto({**row, "label": True, "kto_tag": None})
    raise DataError(
        key="columns",
        got=list(row),
        expected="chosen and rejected, prompt and completion, messages, conversations, or instruction and output",
        fix="pass --format",
    )


def _completions(value: Any) -> list[Messages]:
    if isinstance(value, PreferencePair):
        return [value.chosen, value.rejected]
    return [value.answer if isinstance(value, UnpairedExample) else value.messages]


def _lines(scored_rows: Iterator[ScoredRow], out: TextIO | None) -> Iterator[str]:
    scores: list[float] = []
    margins: list[float] = []
    rows = 0
    for row in scored_rows:
        rows += 1
        scores += row.scores
        if row.margin is not None:
            margins.append(row.margin)
        if out is None:
            yield str(row)
        else:
            out.write(json.dumps(row.to_dict(), ensure_ascii=False) + "\n")
    if not rows:
        raise DataError(key="rows", got=0, expected="at least one row")
    line = f"{rows:,} rows: scores from {min(scores):.4f} to {max(scores):.4f}"
    if margins:
        correct = sum(margin > 0 for margin in margins)
        line += (
            f"; accuracy {correct / len(margins):.1%} ({correct:,} of {len(margins):,} pairs), mean margin "
            f"{sum(margins) / len(margins):.4f}"
        )
    yield line

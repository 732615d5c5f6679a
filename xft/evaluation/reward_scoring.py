"""Score rows with a reward model, in the template that it was trained with."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

import torch

from xft.config import build_component
from xft.data import Collator
from xft.data.encoding.encoders import ConversationEncoder, PreferenceEncoder, UnpairedEncoder
from xft.data.encoding.row_encoder import EncodingOptions, RowEncoder, TooLong
from xft.data.formats import alpaca, kto, openai, preference, sharegpt
from xft.data.sources import Location, Origin, Reading, locate, parse
from xft.errors import ConfigError, DataError, ModelError
from xft.models import LoadedModel, load_saved_model
from xft.models.scoring import eval_mode, reward_scores
from xft.templates import BoundTemplate
from xft.types import Messages, PreferencePair, Row, Sample, UnpairedExample

PORTION = 256
"""Rows that are read, encoded and scored at a time."""
COLUMNS = (
    (("chosen", "rejected"), preference),
    (("messages",), openai),
    (("conversations",), sharegpt),
    (("instruction", "output"), alpaca),
)
"""The format of a row that has these columns; the first that fits."""


@dataclass(frozen=True, slots=True)
class Rated:
    """A row and its scores.

    Attributes:
        origin: where it was read from.
        scores: one; of a pair two, the chosen answer's first.
    """

    origin: Origin
    scores: tuple[float, ...]

    @property
    def margin(self) -> float | None:
        """By how much the chosen answer wins; ``None`` where there is no pair."""
        return self.scores[0] - self.scores[1] if len(self.scores) == 2 else None

    def to_dict(self) -> dict[str, Any]:
        """What is written of it."""
        place = {"file": self.origin.file, self.origin.place: self.origin.line}
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


class Rater:
    """Scores rows.

    Args:
        loaded: a reward model.
        format: the map function of the rows; ``None`` goes by the columns of each.

    Raises:
        ModelError: the tokenizer has no chat template.
    """

    def __init__(self, loaded: LoadedModel, format: Any = None) -> None:
        source = loaded.tokenizer.chat_template
        if not isinstance(source, str):
            raise ModelError(
                "the tokenizer has no chat template, so nobody can say how the model saw conversations; "
                "save one beside it as chat_template.jinja"
            )
        self.loaded = loaded
        self.format = format or by_columns
        template = BoundTemplate(loaded.tokenizer, source)
        config: Any = loaded.base.config
        most = int(getattr(config.get_text_config(), "max_position_embeddings", 0) or 10**9)
        shared = (EncodingOptions(self.format, most), loaded.tokenizer, template)
        self._tasks: dict[type, RowEncoder[Any]] = {
            PreferencePair: PreferenceEncoder(*shared),
            UnpairedExample: UnpairedEncoder(*shared),
        }
        self._other: RowEncoder[Any] = ConversationEncoder(*shared)

    def rate(self, location: Location) -> Iterator[Rated]:
        """Score every row of a location, in its order.

        Raises:
            DataError: a row cannot be read, or has no answer to score.
        """
        records = iter(Reading(location))
        while portion := list(islice(records, PORTION)):
            rows = [(origin, self._encode(origin, parse(origin, raw))) for origin, raw in portion]
            scores = iter(self._score([each for _, samples in rows for each in samples]))
            for origin, samples in rows:
                yield Rated(origin, tuple(islice(scores, len(samples))))

    def _encode(self, origin: Origin, row: Row) -> list[Sample]:
        try:
            value = self.format(row)
            task = self._tasks.get(type(value), self._other)
            accepted = task.validate(value)
            for turns in _continuations(accepted):
                if turns[-1].role != "assistant":
                    raise DataError(
                        f"the last turn is of the {turns[-1].role}, expected an answer to score"
                    )
            (found,) = task.encode([accepted])
        except DataError as error:
            raise DataError(f"{origin}: {error}") from error
        if isinstance(found, TooLong):
            raise DataError(
                f"{origin}: has {found.args[0]} tokens, and the model was made for at most {task.options.max_length}"
            )
        if isinstance(found, DataError):
            raise DataError(f"{origin}: {found}") from found
        return found.samples

    def _score(self, samples: Sequence[Sample]) -> list[float]:
        model = self.loaded.model
        collator = Collator.for_model(self.loaded.tokenizer, self.loaded.supports_packing)
        scores: list[float] = []
        with eval_mode(model):
            for batch in collator.iter_batches(samples):
                scores += reward_scores(model, batch.to(self.loaded.base.device)).tolist()
        return scores


def score_file(
    path: str,
    rows: str,
    format: str | None = None,
    out: str | None = None,
    bits: int | None = None,
    trust_remote_code: bool = False,
) -> Iterator[str]:
    """Score rows with a saved reward model.

    Args:
        path: a run folder, a checkpoint, an adapter or a reward model.
        rows: a file, or anything else that ``data.path`` may be.
        format: of the rows; by default it goes by their columns.
        out: a file to write, one JSON object a row.
        bits: hold the base in so many bits.
        trust_remote_code: run Python code that lies beside the weights.

    Yields:
        A line for each row, unless there is ``out``; then a summary.

    Raises:
        ConfigError: ``rows`` is not there, ``out`` is, or nothing is called ``format``.
        ModelError: ``path`` is no reward model.
        DataError: a row does not fit.
    """
    location = locate(rows)
    made = None if format is None else build_component("format", format)
    if out is not None and Path(out).exists():
        raise ConfigError(f"--out: {out} exists; choose another file")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    loaded = load_saved_model(
        path, bits=bits, device=device, trust_remote_code=trust_remote_code, kind="reward_model"
    )
    rater = Rater(loaded, made)
    if out is None:
        yield from _lines(rater.rate(location), None)
        return
    # Half of the scores under that name would pass for all of them.
    target = Path(out).absolute()
    part = target.with_name(f".{target.name}.part")
    try:
        with part.open("w", encoding="utf-8") as file:
            yield from _lines(rater.rate(location), file)
        part.rename(target)
    except OSError as error:
        raise ConfigError(f"--out: cannot write {out} ({error.strerror})") from error
    finally:
        part.unlink(missing_ok=True)


def by_columns(row: Row) -> Any:
    """Map a row by the columns that it has.

    Raises:
        DataError: it has none of those that are known.
    """
    for columns, made in COLUMNS:
        if all(row.get(each) is not None for each in columns):
            return made(row)
    if row.get("prompt") is not None and row.get("completion") is not None:
        return kto({**row, "label": True, "kto_tag": None})
    raise DataError(
        f"the row has {', '.join(map(repr, row)) or 'no columns'}, expected chosen and rejected, prompt and "
        "completion, messages, conversations, or instruction and output; or name its format with --format"
    )


def _continuations(value: Any) -> list[Messages]:
    if isinstance(value, PreferencePair):
        return [value.chosen, value.rejected]
    return [value.answer if isinstance(value, UnpairedExample) else value.messages]


def _lines(rated: Iterator[Rated], out: TextIO | None) -> Iterator[str]:
    scores: list[float] = []
    margins: list[float] = []
    rows = 0
    for each in rated:
        rows += 1
        scores += each.scores
        if each.margin is not None:
            margins.append(each.margin)
        if out is None:
            yield str(each)
        else:
            out.write(json.dumps(each.to_dict(), ensure_ascii=False) + "\n")
    if not rows:
        raise DataError("no rows; expected at least one")
    line = f"{rows:,} rows: scores from {min(scores):.4f} to {max(scores):.4f}"
    if margins:
        right = sum(each > 0 for each in margins)
        line += (
            f"; accuracy {right / len(margins):.1%} ({right:,} of {len(margins):,} pairs), mean margin "
            f"{sum(margins) / len(margins):.4f}"
        )
    yield line

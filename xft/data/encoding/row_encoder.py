"""What is done to each row: map it, check it, encode it, fit it into the length.

A task is the same whether it runs in this process or in several beside it: records go in, a chunk
of arrays comes out, and nothing is remembered between two chunks.
"""

import json
import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar

import numpy as np
import numpy.typing as npt

from xft.data.sources import Origin, Record, parse
from xft.data.store.token_store import ROW, SAMPLE, FileName, digest, to_tokens
from xft.errors import DataError, EmptyAnswerError, IdenticalAnswersError, XftError
from xft.templates import BoundTemplate
from xft.types import Row, Sample, Tokenizer

Value = TypeVar("Value")
OnOverlong = Literal["drop", "truncate", "error"]
OVERLONG_REASON = "longer than max_length"
QUARANTINE_REASONS = tuple(each.reason for each in (DataError, EmptyAnswerError, IdenticalAnswersError))
"""Why rows are set aside where ``on_invalid='quarantine'``."""


@dataclass
class EncodedRow:
    """The samples of a row.

    Attributes:
        samples: what the row became.
        length: tokens before anything was cut.
        cut: whether something was.
        unknown: whether the tokenizer had no token for one of the characters.
    """

    samples: list[Sample]
    length: int
    cut: bool = False
    unknown: bool = False


class FatalRowError(DataError):
    """A row that the whole preparation stops at, also where misfits are set aside."""


class TooLong(Exception):
    """A row is too long and nothing can be cut. ``args`` is its length in tokens."""


@dataclass
class EncodedChunk:
    """What some rows became.

    Attributes:
        rows, samples, tokens, files: as in ``StoreWriter.append``.
        read: how many rows came in.
        dropped: reason to number of rows.
        cut: rows that were cut and kept.
        with_specials: rows whose content holds the text of a special token.
        with_unknown: rows with a character that the tokenizer has no token for.
        contradicted: pairs whose chosen answer has the lower score.
        too_long: lengths in tokens of the rows that were dropped for it.
        quarantined: rows that were set aside, each with its place and the reason.
    """

    rows: npt.NDArray[Any]
    samples: npt.NDArray[Any]
    tokens: bytes
    files: list[FileName]
    read: int
    dropped: Counter[str] = field(default_factory=Counter)
    cut: int = 0
    with_specials: int = 0
    with_unknown: int = 0
    contradicted: int = 0
    too_long: list[int] = field(default_factory=list)
    quarantined: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class RowEncoder(ABC, Generic[Value]):
    """One kind of row, and how it is encoded.

    Attributes:
        format: the map function, from a row to a value.
        template: how conversations are rendered; ``None`` for raw text.
        tokenizer: of the model that will be trained.
        max_length: the most tokens that a sample may have.
        on_overlong: what becomes of a longer one.
        on_invalid: what becomes of a row that does not fit.
        group_by: the column whose value keeps rows in one split.
    """

    format: Callable[[Row], Any]
    template: BoundTemplate | None
    tokenizer: Tokenizer
    max_length: int
    on_overlong: OnOverlong = "drop"
    on_invalid: Literal["error", "quarantine"] = "error"
    group_by: str | None = None

    def __post_init__(self) -> None:
        words = sorted(set(self.tokenizer.all_special_tokens), key=len, reverse=True)
        self._specials = re.compile("|".join(map(re.escape, words))) if words else None
        lost = "".join(each for each in _CONTROLS if not _roundtrips(each, self.tokenizer))
        self._lost = re.compile(f"[{re.escape(lost)}]") if lost else None
        self._unknown = (
            getattr(self.tokenizer, "unk_token", None),
            getattr(self.tokenizer, "unk_token_id", -1),
        )

    @abstractmethod
    def validate(self, value: Any) -> Value:
        """What the format gives, checked.

        Raises:
            DataError: it is not what this task learns from.
        """

    @abstractmethod
    def dedup_text(self, value: Value) -> Iterable[str]:
        """Everything that a row says, for its digest."""

    @abstractmethod
    def encode(self, values: Sequence[Value]) -> list[EncodedRow | DataError | TooLong]:
        """Encode values, in one batch."""

    def scores_contradict(self, value: Value) -> bool:
        """Whether a row says of itself that it is the wrong way round."""
        return False

    def __call__(self, records: Sequence[Record]) -> EncodedChunk:
        """Do the work for some records.

        Raises:
            DataError: a row does not fit, and ``on_invalid`` says that this is an error.
        """
        work = _ChunkBuilder(self, len(records))
        places: list[tuple[Origin, Row]] = []
        values: list[Value] = []
        for origin, raw in records:
            try:
                row = parse(origin, raw)
            except DataError as error:
                # What could not be read says its place itself.
                work.reject(origin, raw, error, located=True)
                continue
            try:
                values.append(self.validate(self._map(row)))
                places.append((origin, row))
            except DataError as error:
                work.reject(origin, row, error)
        for (origin, row), value, result in zip(places, values, self.encode(values), strict=True):
            try:
                work.take(origin, row, value, result)
            except FatalRowError:
                raise
            except DataError as error:
                work.reject(origin, row, error)
        return work.chunk()

    def _map(self, row: Row) -> Any:
        try:
            return self.format(row)
        except XftError:
            raise
        except Exception as error:
            # A format of the user's may raise anything; it is the row that it could not take.
            name = getattr(getattr(self.format, "func", self.format), "__name__", "format")
            raise DataError(
                f"the format {name!r} raises {type(error).__name__}: {error} (the row has "
                f"{', '.join(map(repr, row)) or 'no columns'})"
            ) from error

    def group(self, row: Row, content: int) -> int:
        """A digest of what keeps a row in one split with others; its own content by default.

        Raises:
            DataError: the row lacks the column.
        """
        if self.group_by is None:
            return content
        if row.get(self.group_by) is None:
            raise DataError(
                f"field {self.group_by}: is missing, and data.group_by keeps rows together by it"
            )
        return digest(json.dumps(row[self.group_by], sort_keys=True, default=str).encode())

    def has_specials(self, dedup_text: Iterable[str]) -> bool:
        """Whether the text of a special token stands in what a row says."""
        return self._specials is not None and any(self._specials.search(each) for each in dedup_text)

    def has_unknown(self, text: str, ids: Iterable[npt.NDArray[Any]]) -> bool:
        """Whether the tokenizer has no token for a character of a text.

        Either it drops the character, or the token for unknown ones stands among the ids more
        often than the text spells it; it may well be one that the template writes.
        """
        if self._lost is not None and self._lost.search(text):
            return True
        token, token_id = self._unknown
        if not token:
            return False
        found = sum(int((each == token_id).sum()) for each in ids)
        return found > 0 and found > text.count(token)


_CONTROLS = [chr(code) for code in (*range(32), 127)]
"""Characters that byte-level vocabularies may lack, since no text that they were made from has them."""


def _roundtrips(character: str, tokenizer: Tokenizer) -> bool:
    ids = tokenizer(f"a{character}a", add_special_tokens=False)["input_ids"]
    return character in str(tokenizer.decode(ids, clean_up_tokenization_spaces=False))


class _ChunkBuilder:
    """Gathers what the rows of one chunk become."""

    def __init__(self, task: RowEncoder[Any], read: int) -> None:
        self.task = task
        self.read = read
        self.files: dict[FileName, int] = {}
        self.rows: list[tuple[int, ...]] = []
        self.samples: list[tuple[int, int, int]] = []
        self.tokens: list[bytes] = []
        self.dropped: Counter[str] = Counter()
        self.quarantined: list[dict[str, Any]] = []
        self.too_long: list[int] = []
        self.cut = self.with_specials = self.with_unknown = self.contradicted = 0

    def reject(self, origin: Origin, raw: Any, error: DataError, located: bool = False) -> None:
        """Stop at a row that does not fit, or set it aside, as the config says."""
        if self.task.on_invalid == "error":
            where = "" if located else f"{origin}: "
            raise DataError(
                f"{where}{error} (data.on_invalid='quarantine' sets such rows aside)"
            ) from error
        self.dropped[error.reason] += 1
        kept = raw.decode("utf-8", "backslashreplace") if isinstance(raw, bytes) else raw
        self.quarantined.append(
            {
                "file": origin.file,
                origin.place: origin.line,
                "reason": str(error),
                "row": None if isinstance(kept, DataError) else kept,
            }
        )

    def take(self, origin: Origin, row: Row, value: Any, result: EncodedRow | DataError | TooLong) -> None:
        """Keep what a row became, or say why not."""
        if isinstance(result, DataError):
            raise result
        if isinstance(result, TooLong):
            if self.task.on_overlong == "error":
                raise FatalRowError(
                    f"{origin}: got {result.args[0]} tokens, expected at most data.max_length={self.task.max_length}; "
                    "raise it, or set data.on_overlong to 'drop' or 'truncate'"
                )
            self.dropped[OVERLONG_REASON] += 1
            self.too_long.append(result.args[0])
            return
        dedup_text = list(self.task.dedup_text(value))
        said = digest(*[each.encode("utf-8", "surrogatepass") for each in dedup_text])
        group = self.task.group(row, said)
        pieces = [to_tokens(each).tobytes() for each in result.samples]
        file = self.files.setdefault((origin.file, origin.unit), len(self.files))
        self.rows.append((file, origin.line, len(pieces), result.length, said, group, digest(*pieces)))
        for sample in result.samples:
            mark = -1 if sample.desirable is None else int(sample.desirable)
            self.samples.append((len(sample), sample.num_targets, mark))
        self.tokens += pieces
        self.cut += result.cut
        self.with_specials += self.task.has_specials(dedup_text)
        self.with_unknown += result.unknown
        self.contradicted += self.task.scores_contradict(value)

    def chunk(self) -> EncodedChunk:
        """All of it, as arrays."""
        return EncodedChunk(
            np.array(self.rows, dtype=ROW),
            np.array(self.samples, dtype=SAMPLE),
            b"".join(self.tokens),
            list(self.files),
            self.read,
            self.dropped,
            self.cut,
            self.with_specials,
            self.with_unknown,
            self.contradicted,
            self.too_long,
            self.quarantined,
        )

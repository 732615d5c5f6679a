"""The data sets that a config declares, and their preparation: read, map, encode, split."""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

from xft.data.encode import encode_conversations, encode_text, shorten
from xft.data.formats import alpaca, text
from xft.data.ledger import Ledger
from xft.data.sources import Located, Origin, locate, read_rows
from xft.errors import ConfigError, DataError
from xft.registry import register
from xft.templates import BoundTemplate
from xft.types import Conversation, Row, Sample, Tokenizer

Validation = int | float | str | None
_BATCH = 1000


@dataclass
class Prepared:
    """What preparing gives: samples by split, and the books."""

    train: list[Sample]
    val: list[Sample]
    ledger: Ledger


@dataclass
class _Entry:
    """One row on its way."""

    origin: Origin
    row: Row
    samples: list[Sample]


class _Data:
    """What instruction tuning and pretraining share: sources, the split, the books."""

    uses_template = True

    def __init__(
        self,
        path: str | list[str],
        format: Callable[..., Any],
        max_length: int,
        val: Validation,
        split: str,
        split_seed: int,
        invalid: Literal["error", "quarantine"],
    ) -> None:
        if max_length < 8:
            raise ConfigError(f"data.max_length: got {max_length}, expected at least 8 tokens")
        if isinstance(val, (int, float)) and (val < 0 or (isinstance(val, float) and val >= 1)):
            raise ConfigError(
                f"data.val: got {val}, expected a share below 1, a number of rows, a file, or None"
            )
        self.paths = [path] if isinstance(path, str) else list(path)
        if not self.paths:
            raise ConfigError("data.path: got an empty list, expected at least one file")
        self.format = format
        self.max_length = max_length
        self.val = val
        self.split = split
        self.split_seed = split_seed
        self.invalid = invalid

    def locate(self) -> None:
        """Check that every source exists, before anything slow is done.

        Raises:
            ConfigError: one does not.
        """
        for path in [*self.paths, *([self.val] if isinstance(self.val, str) else [])]:
            locate(path)

    def prepare(self, tokenizer: Tokenizer, template: BoundTemplate | None) -> Prepared:
        """Read, map, encode and split.

        Args:
            tokenizer: of the model that will be trained.
            template: how conversations are rendered; ``None`` for raw text.

        Raises:
            DataError: a row does not fit (unless quarantined), or too much is lost.
        """
        ledger = Ledger()
        rows = [each for path in self.paths for each in read_rows(path, self.split)]
        train = list(self._encode(rows, tokenizer, template, ledger))
        val: list[_Entry] = []
        if isinstance(self.val, str):
            val = list(self._encode(list(read_rows(self.val, self.split)), tokenizer, template, ledger))
        self._refuse_losses(ledger)
        if self.val is not None and not isinstance(self.val, str):
            train, val = self._split(train)
        ledger.rows_trained, ledger.rows_validated = len(train), len(val)
        prepared = Prepared(
            [sample for each in train for sample in each.samples],
            [sample for each in val for sample in each.samples],
            ledger,
        )
        ledger.close(prepared.train, prepared.val)
        return prepared

    def _encode(
        self,
        rows: list[Located],
        tokenizer: Tokenizer,
        template: BoundTemplate | None,
        ledger: Ledger,
    ) -> Iterator[_Entry]:
        raise AssertionError("each data set says how it encodes")

    def _refuse_losses(self, ledger: Ledger) -> None:
        if not ledger.lengths:
            reasons = ", ".join(f"{count} {reason}" for reason, count in ledger.rows_dropped.items())
            raise DataError(f"{', '.join(self.paths)}: no row is left of {ledger.rows_read} ({reasons})")

    def _reject(self, ledger: Ledger, origin: Origin, row: Row, error: DataError) -> None:
        if self.invalid == "error":
            raise DataError(
                f"{origin}: {error} (data.invalid='quarantine' sets such rows aside)"
            ) from error
        ledger.rows_dropped["does not fit the format"] += 1
        ledger.quarantined.append(
            {"file": origin.file, origin.unit: origin.line, "reason": str(error), "row": row}
        )

    def _split(self, entries: list[_Entry]) -> tuple[list[_Entry], list[_Entry]]:
        """Part off the validation rows: those whose content hashes lowest.

        Rows of the same content have the same hash and stay together, so nothing is validated
        on that was trained on.
        """
        if len(entries) < 2:
            raise DataError(
                f"{', '.join(self.paths)}: got 1 row, expected at least 2, one to train on and one to "
                "validate on (data.val=None trains without validation)"
            )
        assert isinstance(self.val, (int, float))
        wanted = self.val if isinstance(self.val, int) else round(self.val * len(entries))
        wanted = max(1, int(wanted))
        groups: dict[str, list[int]] = {}
        for index, entry in enumerate(entries):
            groups.setdefault(_digest(entry.row, self.split_seed), []).append(index)
        chosen: set[int] = set()
        for key in sorted(groups):
            if len(chosen) >= wanted:
                break
            chosen.update(groups[key])
        if len(chosen) >= len(entries):
            raise DataError(
                f"data.val: {wanted} of {len(entries)} rows would leave none to train on; "
                "lower data.val (rows of the same content stay together)"
            )
        train = [each for index, each in enumerate(entries) if index not in chosen]
        return train, [entries[index] for index in sorted(chosen)]


@register("data", "instruction")
class InstructionData(_Data):
    """Rows of questions and answers. Only answers are trained.

    Args:
        path: a file, ``xft://NAME``, a hub data set, or a list of these.
        format: the map function, from a row to messages.
        max_length: the most tokens that one conversation may have.
        over_length: what becomes of a longer one: ``drop`` it, ``truncate`` its longest turn
            (never a header or an end-of-turn token), or stop with an ``error``.
        max_hurt: refuse to start when a larger share of the rows is dropped or cut for length.
        packing: put whole conversations side by side into rows of ``max_length`` tokens. They
            never see each other, and none is split.
        val: what is validated on: a share, a number of rows, a file, or ``None``.
        split: which split of a hub data set to take.
        split_seed: chooses the validation rows, apart from the training's seed.
        invalid: a row that does not fit is an ``error``, or is counted and set aside.
    """

    def __init__(
        self,
        path: str | list[str],
        format: Callable[..., Any] = alpaca,
        max_length: int = 2048,
        over_length: Literal["drop", "truncate", "error"] = "drop",
        max_hurt: float = 0.1,
        packing: bool = True,
        val: Validation = 0.05,
        split: str = "train",
        split_seed: int = 0,
        invalid: Literal["error", "quarantine"] = "error",
    ) -> None:
        super().__init__(path, format, max_length, val, split, split_seed, invalid)
        self.over_length = over_length
        self.max_hurt = max_hurt
        self.packing = packing

    def _encode(
        self,
        rows: list[Located],
        tokenizer: Tokenizer,
        template: BoundTemplate | None,
        ledger: Ledger,
    ) -> Iterator[_Entry]:
        assert template is not None
        for begin in range(0, len(rows), _BATCH):
            chunk = rows[begin : begin + _BATCH]
            mapped = list(self._map(chunk, ledger))
            encoded = encode_conversations([each for _, _, each in mapped], template, tokenizer)
            for (origin, row, conversation), result in zip(mapped, encoded, strict=True):
                if isinstance(result, DataError):
                    self._reject(ledger, origin, row, result)
                    continue
                ledger.lengths.append(len(result))
                sample = self._fit(origin, conversation, result, template, tokenizer, ledger)
                if sample is not None:
                    yield _Entry(origin, row, [sample])

    def _map(self, rows: Sequence[Located], ledger: Ledger) -> Iterator[tuple[Origin, Row, Conversation]]:
        for origin, row in rows:
            ledger.rows_read += 1
            try:
                conversation = self.format(row)
                _check_conversation(conversation)
            except DataError as error:
                self._reject(ledger, origin, row, error)
            else:
                yield origin, row, conversation

    def _fit(
        self,
        origin: Origin,
        conversation: Conversation,
        sample: Sample,
        template: BoundTemplate,
        tokenizer: Tokenizer,
        ledger: Ledger,
    ) -> Sample | None:
        if len(sample) <= self.max_length:
            return sample
        if self.over_length == "error":
            raise DataError(
                f"{origin}: got {len(sample)} tokens, expected at most data.max_length={self.max_length}; "
                "raise it, or set data.over_length to 'drop' or 'truncate'"
            )
        cut = None
        if self.over_length == "truncate":
            cut = shorten(conversation, template, tokenizer, self.max_length)
        if cut is None:
            ledger.rows_dropped["longer than max_length"] += 1
        else:
            ledger.rows_truncated += 1
        return cut

    def _refuse_losses(self, ledger: Ledger) -> None:
        super()._refuse_losses(ledger)
        hurt = ledger.rows_dropped["longer than max_length"] + ledger.rows_truncated
        if hurt / ledger.rows_read > self.max_hurt:
            raise DataError(
                f"data.max_length={self.max_length} hurts {hurt} of {ledger.rows_read} rows "
                f"({hurt / ledger.rows_read:.0%}), more than data.max_hurt={self.max_hurt:.0%}; lengths in "
                f"tokens: {ledger.length_summary()}; raise data.max_length, or allow it with data.max_hurt"
            )


@register("data", "text")
class TextData(_Data):
    """Raw text for continued pretraining. Every token is trained.

    Documents are separated by EOS and cut into chunks without loss. The arguments are those of
    :class:`InstructionData`; a document is never too long.
    """

    uses_template = False

    def __init__(
        self,
        path: str | list[str],
        format: Callable[..., Any] = text,
        max_length: int = 2048,
        packing: bool = True,
        val: Validation = 0.05,
        split: str = "train",
        split_seed: int = 0,
        invalid: Literal["error", "quarantine"] = "error",
    ) -> None:
        super().__init__(path, format, max_length, val, split, split_seed, invalid)
        self.packing = packing

    def _encode(
        self,
        rows: list[Located],
        tokenizer: Tokenizer,
        template: BoundTemplate | None,
        ledger: Ledger,
    ) -> Iterator[_Entry]:
        for origin, row in rows:
            ledger.rows_read += 1
            try:
                document = self.format(row)
                if not isinstance(document, str) or not document.strip():
                    raise DataError(f"got {document!r:.60}, expected text that is not empty")
            except DataError as error:
                self._reject(ledger, origin, row, error)
                continue
            samples = encode_text(document, tokenizer, self.max_length)
            ledger.lengths.append(sum(each.num_targets for each in samples))
            yield _Entry(origin, row, samples)


def _check_conversation(conversation: Conversation) -> None:
    if isinstance(conversation, str):
        raise DataError("the format gives text, expected messages; raw text is for data type='text'")
    answers = [each for each in conversation if each.trained]
    if not answers:
        raise DataError("the row has no answer to learn (no trained turn of the assistant)")
    if any(not each.content.strip() for each in answers):
        raise DataError("an answer is empty, so there is nothing to learn from the row")
    for before, after in pairwise(conversation):
        if before.role == after.role and after.role != "tool":
            raise DataError(f"two turns of the {after.role} in a row")


def _digest(row: Row, seed: int) -> str:
    content = json.dumps(row, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(f"{seed}\n{content}".encode("utf-8", "surrogatepass")).hexdigest()

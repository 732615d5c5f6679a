"""What every data set shares: reading its sources, the validation split, the books."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from xft.data.ledger import Ledger
from xft.data.sources import Located, Origin, locate, read_rows
from xft.errors import ConfigError, DataError
from xft.templates import BoundTemplate
from xft.types import Row, Sample, Tokenizer

Validation = int | float | str | None


@dataclass
class Prepared:
    """What preparing gives: samples by split, and the books."""

    train: list[Sample]
    val: list[Sample]
    ledger: Ledger


@dataclass
class Entry:
    """One row on its way, and the samples that it became."""

    origin: Origin
    row: Row
    samples: list[Sample]


class Source:
    """A data set, from its sources to its splits.

    A kind of data set derives from it, and says in ``encode`` how a row becomes samples.
    """

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
        train = self._read(self.paths, tokenizer, template, ledger)
        val: list[Entry] = []
        if isinstance(self.val, str):
            val = self._read([self.val], tokenizer, template, ledger)
        self.refuse_losses(ledger)
        if not train:
            reasons = ", ".join(f"{count} {reason}" for reason, count in ledger.rows_dropped.items())
            raise DataError(f"{', '.join(self.paths)}: no row is left of {ledger.rows_read} ({reasons})")
        if isinstance(self.val, str):
            self._refuse_overlap(train, val)
        elif self.val:
            train, val = self._split(train, self.val)
        ledger.rows_trained, ledger.rows_validated = len(train), len(val)
        prepared = Prepared(
            [sample for each in train for sample in each.samples],
            [sample for each in val for sample in each.samples],
            ledger,
        )
        ledger.close(prepared.train, prepared.val)
        return prepared

    def _read(
        self, paths: list[str], tokenizer: Tokenizer, template: BoundTemplate | None, ledger: Ledger
    ) -> list[Entry]:
        rows = [each for path in paths for each in read_rows(path, self.split)]
        return list(self.encode(rows, tokenizer, template, ledger))

    def encode(
        self,
        rows: list[Located],
        tokenizer: Tokenizer,
        template: BoundTemplate | None,
        ledger: Ledger,
    ) -> Iterator[Entry]:
        """Map and encode rows; count what is dropped in the ledger."""
        raise AssertionError("each data set says how it encodes")

    def refuse_losses(self, ledger: Ledger) -> None:
        """Refuse to start when too much was dropped or cut. Raw text loses nothing."""

    def reject(self, ledger: Ledger, origin: Origin, row: Row, error: DataError) -> None:
        """Deal with a row that does not fit, as the config says.

        Raises:
            DataError: the config wants no such row.
        """
        if self.invalid == "error":
            raise DataError(
                f"{origin}: {error} (data.invalid='quarantine' sets such rows aside)"
            ) from error
        ledger.rows_dropped["does not fit the format"] += 1
        ledger.quarantined.append(
            {"file": origin.file, origin.place: origin.line, "reason": str(error), "row": row}
        )

    def _split(self, entries: list[Entry], val: int | float) -> tuple[list[Entry], list[Entry]]:
        """Part off the validation rows: those whose content hashes lowest.

        Rows of the same content have the same hash and stay together, so nothing is validated
        on that was trained on.
        """
        wanted = max(1, val if isinstance(val, int) else round(val * len(entries)))
        groups: dict[str, list[int]] = {}
        for index, entry in enumerate(entries):
            groups.setdefault(digest(entry.samples, self.split_seed), []).append(index)
        if len(groups) < 2 or wanted >= len(entries):
            raise DataError(
                f"{', '.join(self.paths)}: got {len(entries)} rows, {len(groups)} of them different, expected at "
                f"least {wanted + 1}: {wanted} to validate on and one to train on; add rows, or lower data.val "
                "(data.val=None trains without validation)"
            )
        chosen: set[int] = set()
        for key in sorted(groups):
            # A group of equal rows that would go far beyond the wish is left for training.
            if len(chosen) + len(groups[key]) <= wanted:
                chosen.update(groups[key])
        if not chosen:
            chosen.update(groups[min(sorted(groups), key=lambda key: len(groups[key]))])
        train = [each for index, each in enumerate(entries) if index not in chosen]
        return train, [entries[index] for index in sorted(chosen)]

    def _refuse_overlap(self, train: list[Entry], val: list[Entry]) -> None:
        seen = {digest(each.samples, 0) for each in train}
        both = [each for each in val if digest(each.samples, 0) in seen]
        if both:
            raise DataError(
                f"{both[0].origin}: {len(both)} of {len(val)} validation rows are trained on too, this one first; "
                "take them out of one of the two files"
            )


def digest(samples: Sequence[Sample], seed: int = 0) -> str:
    """A number for what is trained of some samples, the same on every machine.

    It is taken of tokens and labels, not of the row: two rows that differ in a column that nothing
    reads are the same row to the model.
    """
    found = hashlib.sha256(str(seed).encode())
    for each in samples:
        for part in (each.input_ids, each.labels):
            found.update(f"{len(part)};".encode())
            found.update(np.ascontiguousarray(part, dtype="<i4").tobytes())
    return found.hexdigest()

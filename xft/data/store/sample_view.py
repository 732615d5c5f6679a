"""A sequence of samples from token stores: the training or the validation split."""

from collections.abc import Callable, Iterator, Sequence
from hashlib import blake2b
from typing import overload

import numpy as np

from xft.data.store.token_store import I32, I64, U64, TokenStore
from xft.types import Image, Row, Sample


class SampleView(Sequence[Sample]):
    """Samples of one or several stores, in a given order, read on access.

    Attributes:
        parts: stores with the indices of selected rows, concatenated.
    """

    def __init__(self, parts: Sequence[tuple[TokenStore, I64]]) -> None:
        self.parts = [(store, np.asarray(rows, dtype=np.int64)) for store, rows in parts]
        self._indices = [store.samples_of(rows) for store, rows in self.parts]
        self._ends = np.cumsum([len(indices) for indices in self._indices], dtype=np.int64)

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> list[Sample]: ...
    def __getitem__(self, index: int | slice) -> Sample | list[Sample]:
        if isinstance(index, slice):
            return [self[position] for position in range(*index.indices(len(self)))]
        store, sample = self._find(index)
        return store[sample]

    def __iter__(self) -> Iterator[Sample]:
        for index in range(len(self)):
            yield self[index]

    def _find(self, index: int) -> tuple[TokenStore, int]:
        if index < 0:
            index += len(self)
        if not 0 <= index < len(self):
            raise IndexError(index)
        part = int(np.searchsorted(self._ends, index, side="right"))
        begin = int(self._ends[part - 1]) if part else 0
        return self.parts[part][0], int(self._indices[part][index - begin])

    def origin(self, index: int) -> str:
        """Return the location of the row of a sample, as file and line."""
        store, sample = self._find(index)
        return store.origin(int(np.searchsorted(store.first, sample, side="right")) - 1)

    def columns(self, index: int) -> Row:
        """Return the columns of the row of a sample, if the store keeps them."""
        store, sample = self._find(index)
        return store.columns.of_row(int(np.searchsorted(store.first, sample, side="right")) - 1)

    def origin_of_row(self, number: int) -> str:
        """Return the location of a row, by its index in the view."""
        for store, rows in self.parts:
            if number < len(rows):
                return store.origin(int(rows[number]))
            number -= len(rows)
        raise IndexError(number)

    def costliest_image(self, cost: Callable[[tuple[int, int]], int]) -> tuple[int, Image] | None:
        """Return the first image of the highest cost, with the index of its sample; ``None`` without images.

        Args:
            cost: of an image by height and width.
        """
        best: tuple[int, int, int] | None = None
        for number in range(len(self)):
            store, sample = self._find(number)
            for place, size in enumerate(store.images.sizes_of_sample(sample)):
                if best is None or cost(size) > best[0]:
                    best = cost(size), number, place
        return None if best is None else (best[1], self[best[1]].images[best[2]])

    def _gather(self, field: str) -> I32:
        pieces = [
            store.samples[field][index] for (store, _), index in zip(self.parts, self._indices, strict=True)
        ]
        return np.concatenate([np.empty(0, np.int32), *pieces]).astype(np.int32)

    @property
    def lengths(self) -> I32:
        """Tokens of each sample, ``(samples,)``."""
        return self._gather("length")

    @property
    def targets(self) -> I32:
        """Target tokens of each sample, ``(samples,)``."""
        return self._gather("targets")

    @property
    def digests(self) -> U64:
        """Digest of the ids and labels of each row, ``(rows,)``."""
        return self.row_field("tokens")

    def row_field(self, name: str) -> U64:
        """Return a digest of ``ROW`` for each row: ``content``, ``group`` or ``tokens``, ``(rows,)``."""
        pieces = [store.rows[name][rows] for store, rows in self.parts]
        return np.concatenate([np.empty(0, np.uint64), *pieces])

    def fingerprint(self) -> str:
        """Return a hash of the samples and their order."""
        return blake2b(self.digests.tobytes(), digest_size=32).hexdigest()

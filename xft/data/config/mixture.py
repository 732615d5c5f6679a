"""A mixture of data sets, each with a weight and a template of its own."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from xft.data.config.base import DatasetConfig, PreparedData, RowSelection, check_split_leakage
from xft.data.report import DataReport
from xft.data.splits import stable_order
from xft.data.store.token_store import SampleView
from xft.errors import ConfigError, DataError, did_you_mean
from xft.registry import register
from xft.templates import BoundTemplate
from xft.types import Tokenizer

UNUSED_REASON = "left out by the weights of the mixture"


@register("data", "mixture")
@dataclass
class Mixture:
    """Several data sets, by name, trained on together.

    Each is prepared as if it were alone: with its own format, template, length and validation
    rows. What is validated on is the validation rows of all of them.

    Without ``weights``, each gives every one of its rows as often as ``max_epochs_per_dataset`` says. With them,
    the rows of an epoch are shared out in these proportions, and there are as many as can be had
    without any set giving its rows more often than its ``max_epochs_per_dataset``. Which rows give a part of an
    epoch follows from what they say and from ``seed``.

    Args:
        datasets: the data sets, by name.
        weights: the share of each set in the training rows, relative to one another.
        max_epochs_per_dataset: how often the rows of a set may stand in one epoch of the mixture; 1 where nothing
            is said, and not necessarily a whole number.
        seed: chooses rows where a part of a set is taken.
    """

    datasets: Mapping[str, DatasetConfig]
    weights: Mapping[str, float] | None = None
    max_epochs_per_dataset: Mapping[str, float] = field(default_factory=dict)
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.datasets:
            raise ConfigError("data.datasets: got none, expected at least one data set")
        for name, values in (
            ("weights", self.weights or {}),
            ("max_epochs_per_dataset", self.max_epochs_per_dataset),
        ):
            for key, value in values.items():
                if key not in self.datasets:
                    raise ConfigError(f"data.{name}.{key}: no such set; {did_you_mean(key, self.datasets)}")
                if not 0 < value < math.inf:
                    raise ConfigError(f"data.{name}.{key}: got {value}, expected more than 0")
        if self.weights is not None and len(self.weights) < len(self.datasets):
            missing = ", ".join(each for each in self.datasets if each not in self.weights)
            raise ConfigError(f"data.weights: no weight is given for {missing}")
        if len({(each.sample_kind, each.packing) for each in self.datasets.values()}) > 1:
            raise ConfigError(
                "data.datasets: sets of different kinds (pairs, labelled answers, others), or packed and unpacked "
                "ones, cannot be mixed"
            )

    @property
    def sample_kind(self) -> str:
        """What the sets hold: ``samples``, ``pairs`` or ``labelled answers``."""
        return next(iter(self.datasets.values())).sample_kind

    @property
    def samples_per_example(self) -> int:
        """Neighboring samples that form one example."""
        return next(iter(self.datasets.values())).samples_per_example

    @property
    def packing(self) -> bool:
        """Whether the sets are packed."""
        return next(iter(self.datasets.values())).packing

    @property
    def max_length(self) -> int:
        """The most tokens that a sample of any set may have."""
        return max(each.max_length for each in self.datasets.values())

    @property
    def pack_length(self) -> int:
        """Tokens in a packed row."""
        return max(each.pack_length for each in self.datasets.values())

    @property
    def uses_template(self) -> bool:
        """Whether any set holds conversations."""
        return any(each.uses_template for each in self.datasets.values())

    def locate(self) -> None:
        """Check that every source of every set exists.

        Raises:
            ConfigError: one does not.
        """
        for each in self.datasets.values():
            each.locate()

    def prepare(self, tokenizer: Tokenizer, template: BoundTemplate | None) -> PreparedData:
        """Prepare every set, and take of each what the mixture wants.

        Raises:
            DataError: a set cannot be prepared, or what one validates on another trains on.
        """
        report = DataReport()
        train: list[RowSelection] = []
        val: list[RowSelection] = []
        prepared: dict[str, PreparedData] = {}
        for name, data in self.datasets.items():
            try:
                prepared[name] = data.prepare(tokenizer, template)
            except DataError as error:
                raise DataError(f"data.datasets.{name}: {error}") from error
        shares = self._sampling_ratios({name: _count(each) for name, each in prepared.items()})
        for name, each in prepared.items():
            taken = _repeat_rows(each.train.parts, shares[name], self.seed)
            left = _count(each) - len({(id(store), row) for store, rows in taken for row in rows.tolist()})
            if left:
                each.report.rows_train -= left
                each.report.rows_dropped[UNUSED_REASON] += left
            report.merge(each.report)
            train += taken
            val += each.val.parts
        report.exact_duplicates += _count_shared_rows(prepared.values())
        out = PreparedData(SampleView(train), SampleView(val), report, self.samples_per_example)
        check_split_leakage(out)
        report.check_balance(out.train, out.val)
        return out

    def _sampling_ratios(self, counts: Mapping[str, int]) -> dict[str, float]:
        """How often each set gives its rows in an epoch of the mixture."""
        most = {name: float(self.max_epochs_per_dataset.get(name, 1)) for name in counts}
        if self.weights is None:
            return most
        total = min(most[name] * count / self.weights[name] for name, count in counts.items())
        return {name: self.weights[name] * total / count for name, count in counts.items()}


def _count_shared_rows(sets: Iterable[PreparedData]) -> int:
    """Rows of a set that become the same tokens as a row of a set before it."""
    own = [np.unique(np.concatenate([each.train.digests, each.val.digests])) for each in sets]
    return sum(len(each) for each in own) - len(np.unique(np.concatenate(own)))


def _count(prepared: PreparedData) -> int:
    return sum(len(rows) for _, rows in prepared.train.parts)


def _repeat_rows(parts: list[RowSelection], times: float, seed: int) -> list[RowSelection]:
    """All rows as often as ``times`` has whole parts, and the rest of it of the rows that come
    first in a fixed order."""
    whole = int(times)
    taken = list(parts) * whole
    digests = np.concatenate([store.rows["content"][rows] for store, rows in parts])
    rest = round((times - whole) * len(digests))
    if not whole:
        rest = max(rest, 1)
    places = stable_order(digests, seed)
    begin = 0
    for store, rows in parts:
        mine = places[begin : begin + len(rows)] < rest
        begin += len(rows)
        if mine.any():
            taken.append((store, rows[mine]))
    return taken

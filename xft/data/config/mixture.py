"""A mixture of datasets, each with its own weight and template."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from xft.data.config.base import DatasetConfig, PreparedData, RowSelection
from xft.data.report import DataReport
from xft.data.splits import check_split_leakage, stable_order
from xft.data.store.sample_view import SampleView
from xft.errors import ConfigError, DataError, did_you_mean
from xft.registry import register
from xft.templates import BoundTemplate
from xft.types import ImageProcessor, Tokenizer
from xft.types.ranges import Positive, Seed

UNUSED_REASON = "left out by the weights of the mixture"


@register("data", "mixture")
@dataclass
class Mixture:
    """Several datasets, by name, trained on together.

    Each is prepared on its own: with its format, template, length and validation rows. The
    validation split has the validation rows of all.

    Without ``weights``, each dataset contributes every row ``max_epochs_per_dataset`` times. With
    ``weights``, an epoch has rows in these proportions, and as many as possible without exceeding
    ``max_epochs_per_dataset``. Which rows make up a fraction of an epoch depends on their content
    and on ``seed``.

    Args:
        datasets: datasets by name.
        weights: relative share of each dataset in the training rows.
        max_epochs_per_dataset: how often the rows of a dataset may occur in one epoch of the
            mixture, default 1; need not be a whole number.
        seed: selects rows where a fraction of a dataset is used.
    """

    datasets: Mapping[str, DatasetConfig]
    weights: Mapping[str, Positive] | None = None
    max_epochs_per_dataset: Mapping[str, Positive] = field(default_factory=dict)
    seed: Seed = 0

    def __post_init__(self) -> None:
        if not self.datasets:
            raise ConfigError(key="data.datasets", got={}, expected="at least one dataset")
        for name, values in (
            ("weights", self.weights or {}),
            ("max_epochs_per_dataset", self.max_epochs_per_dataset),
        ):
            for dataset, value in values.items():
                key = f"data.{name}.{dataset}"
                if dataset not in self.datasets:
                    message = f"{key}: no such dataset; {did_you_mean(dataset, self.datasets)}"
                    raise ConfigError(message, key=key, got=dataset)
                if not 0 < value < math.inf:
                    raise ConfigError(key=key, got=value, expected="more than 0")
        if self.weights is not None and len(self.weights) < len(self.datasets):
            missing = [name for name in self.datasets if name not in self.weights]
            raise ConfigError(
                key="data.weights",
                got=sorted(self.weights),
                expected=f"a weight for each dataset; {', '.join(missing)} has none",
            )
        kinds = {(dataset.sample_kind, dataset.packing) for dataset in self.datasets.values()}
        if len(kinds) > 1:
            raise ConfigError(
                key="data.datasets",
                got=sorted(kinds, key=repr),
                expected="datasets of one kind (samples, pairs or labelled answers), all packed or none",
            )

    @property
    def sample_kind(self) -> str:
        """Kind of the examples: ``samples``, ``pairs`` or ``labelled answers``."""
        return next(iter(self.datasets.values())).sample_kind

    @property
    def samples_per_example(self) -> int:
        """Neighboring samples that form one example."""
        return next(iter(self.datasets.values())).samples_per_example

    @property
    def packing(self) -> bool | Literal["auto"]:
        """Whether the datasets are packed."""
        return next(iter(self.datasets.values())).packing

    @property
    def max_length(self) -> int:
        """Maximum number of tokens of a sample."""
        return max(dataset.max_length for dataset in self.datasets.values())

    @property
    def pack_length(self) -> int:
        """Tokens of a packed row."""
        return max(dataset.pack_length for dataset in self.datasets.values())

    @property
    def uses_template(self) -> bool:
        """Whether any dataset has conversations."""
        return any(dataset.uses_template for dataset in self.datasets.values())

    @property
    def system_text(self) -> str:
        """System text of conversations without one, if it is the same in all datasets with a template; else empty."""
        texts = {dataset.system_text for dataset in self.datasets.values() if dataset.uses_template}
        return texts.pop() if len(texts) == 1 else ""

    def check_sources(self) -> None:
        """Check that every source of every dataset exists.

        Raises:
            ConfigError: a source does not exist.
        """
        for dataset in self.datasets.values():
            dataset.check_sources()

    def prepare(
        self,
        tokenizer: Tokenizer,
        template: BoundTemplate | None,
        processor: ImageProcessor | None = None,
    ) -> PreparedData:
        """Prepare every dataset, and select the rows of an epoch of the mixture.

        Raises:
            DataError: a dataset cannot be prepared, or has validation rows that another trains on.
        """
        report = DataReport()
        train: list[RowSelection] = []
        val: list[RowSelection] = []
        parts: dict[str, PreparedData] = {}
        for name, dataset in self.datasets.items():
            try:
                parts[name] = dataset.prepare(tokenizer, template, processor)
            except DataError as error:
                raise error.prefixed(f"data.datasets.{name}") from error
        ratios = self._sampling_ratios({name: _count_rows(part) for name, part in parts.items()})
        for name, part in parts.items():
            selected = _repeat_rows(part.train.parts, ratios[name], self.seed)
            used = {(id(store), row) for store, rows in selected for row in rows.tolist()}
            unused = _count_rows(part) - len(used)
            if unused:
                part.report.rows_train -= unused
                part.report.rows_dropped[UNUSED_REASON] += unused
            report.merge(part.report)
            train += selected
            val += part.val.parts
        report.exact_duplicates += _count_shared_rows(parts.values())
        prepared = PreparedData(SampleView(train), SampleView(val), report, self.samples_per_example)
        check_split_leakage(prepared.train, prepared.val)
        report.check_balance(prepared.train, prepared.val)
        return prepared

    def _sampling_ratios(self, counts: Mapping[str, int]) -> dict[str, float]:
        """Compute how often the rows of each dataset occur in an epoch of the mixture."""
        limits = {name: float(self.max_epochs_per_dataset.get(name, 1)) for name in counts}
        if self.weights is None:
            return limits
        total = min(limits[name] * count / self.weights[name] for name, count in counts.items())
        return {name: self.weights[name] * total / count for name, count in counts.items()}


def _count_shared_rows(parts: Iterable[PreparedData]) -> int:
    """Count rows whose tokens equal those of a row of an earlier dataset."""
    digests = [np.unique(np.concatenate([part.train.digests, part.val.digests])) for part in parts]
    return sum(len(unique) for unique in digests) - len(np.unique(np.concatenate(digests)))


def _count_rows(prepared: PreparedData) -> int:
    return sum(len(rows) for _, rows in prepared.train.parts)


def _repeat_rows(selections: list[RowSelection], times: float, seed: int) -> list[RowSelection]:
    """Repeat all rows ``int(times)`` times, then add the first rows of a stable order for the fraction.

    At least one row is selected. 2.5 times of 4 rows are 10 rows: all of them twice, and 2 once more.
    """
    whole = int(times)
    repeated = list(selections) * whole
    digests = np.concatenate([store.rows["content"][rows] for store, rows in selections])
    rest = round((times - whole) * len(digests))
    if not whole:
        rest = max(rest, 1)
    positions = stable_order(digests, seed)
    begin = 0
    for store, rows in selections:
        chosen = positions[begin : begin + len(rows)] < rest
        begin += len(rows)
        if chosen.any():
            repeated.append((store, rows[chosen]))
    return repeated

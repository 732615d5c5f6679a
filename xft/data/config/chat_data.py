"""What datasets of conversations share: limits of the length, and a system text."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

from xft.data.config.base import DatasetConfig, RowSelection
from xft.data.encoding.encoded import OVERLONG_REASON, EncodingOptions, OnOverlong
from xft.data.formats.system_text import with_system
from xft.data.report import DataReport
from xft.errors import ConfigError, DataError
from xft.types.ranges import Fraction


@dataclass
class ChatData(DatasetConfig):
    """Config of a dataset of conversations, which may be too long.

    Args:
        max_overlong_fraction: maximum fraction of rows that may be dropped or truncated for length.
        on_overlong: what happens to a longer row: ``drop``, ``truncate`` or ``error``.
        system: system text of conversations and sample questions that do not start with a system message; empty for none.
    """

    max_overlong_fraction: Fraction = field(default=0.1, kw_only=True)
    on_overlong: OnOverlong = field(default="drop", kw_only=True)
    system: str = field(default="", kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.max_overlong_fraction <= 1:
            raise ConfigError(
                key="data.max_overlong_fraction",
                got=self.max_overlong_fraction,
                expected="a fraction from 0 to 1",
            )

    @property
    def system_text(self) -> str:
        """System text of conversations without one; empty for none."""
        return self.system

    def encoding_options(self) -> EncodingOptions:
        """Options of the row encoder."""
        format = partial(with_system, self.format, self.system) if self.system else self.format
        return EncodingOptions(format, self.max_length, self.on_overlong, self.on_invalid, self.group_by)

    def check_dropped_rows(self, report: DataReport, train: Sequence[RowSelection]) -> None:
        """Check that at most ``max_overlong_fraction`` of the rows are overlong, and that rows are left."""
        overlong = report.rows_dropped[OVERLONG_REASON] + report.rows_truncated
        if overlong > self.max_overlong_fraction * report.rows_read:
            raise DataError(
                f"data.max_length={self.max_length} truncates or drops {overlong} of {report.rows_read} rows "
                f"({overlong / report.rows_read:.0%}, limit {self.max_overlong_fraction:.0%}); lengths in "
                f"tokens: {report.length_summary()}. Raise data.max_length, or data.max_overlong_fraction",
                key="data.max_length",
                got=self.max_length,
            )
        super().check_dropped_rows(report, train)

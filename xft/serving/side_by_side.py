"""Texts that grow beside each other in a terminal."""

import os
from collections.abc import Sequence
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text


class Beside:
    """Columns of text. While they grow, as much of their ends is shown as fits the screen; at the
    end, they are printed whole.

    Args:
        names: of the columns.
        console: where they are shown; by default the terminal.
    """

    def __init__(self, names: Sequence[str], console: Console | None = None) -> None:
        self.names = names
        self.texts = [""] * len(names)
        self.console = console or Console(no_color="NO_COLOR" in os.environ, highlight=False)
        self._live = Live(console=self.console, transient=True, auto_refresh=False)

    def __enter__(self) -> "Beside":
        self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.__exit__(kind, error, trace)
        self.console.print(self._table(None))

    def add(self, side: int, piece: str) -> None:
        """Add a piece of text to a column."""
        self.texts[side] += piece
        self._live.update(self._table(self.console.height - 4), refresh=True)

    def _table(self, height: int | None) -> Table:
        """The columns, or the last ``height`` lines of each."""
        table = Table(expand=True, show_edge=False, pad_edge=False)
        inner = (self.console.width - 3 * (len(self.names) - 1)) // len(self.names)
        for name in self.names:
            table.add_column(name, ratio=1, overflow="fold")
        cells: list[Text] = []
        for text in self.texts:
            # Text, not markup: what a model writes in square brackets stays what it is.
            lines = Text(text.strip()).wrap(self.console, inner)
            cells.append(Text("\n").join(lines if height is None else lines[-height:]))
        table.add_row(*cells)
        return table

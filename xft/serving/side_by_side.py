"""Growing texts side by side in a terminal."""

import os
from collections.abc import Sequence

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from xft.utils.console import escape_control_chars


class SideBySideView:
    """Columns of text that grow in place.

    While texts grow, the view shows the last lines that fit on the screen. At the end it prints the full texts.

    Args:
        names: headers of the columns.
        console: output; the terminal by default.
    """

    def __init__(self, names: Sequence[str], console: Console | None = None) -> None:
        self.names = names
        self.texts = [""] * len(names)
        self.console = console or Console(no_color="NO_COLOR" in os.environ, highlight=False)
        self._live = Live(console=self.console, transient=True, auto_refresh=False)

    def __enter__(self) -> "SideBySideView":
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()
        self.console.print(self._table(None))

    def append(self, column: int, piece: str) -> None:
        """Append a piece of untrusted text to a column and refresh the view."""
        self.texts[column] += escape_control_chars(piece)
        self._live.update(self._table(self.console.height - 4), refresh=True)

    def _table(self, height: int | None) -> Table:
        """Build the table; with a ``height``, from the last lines of each column."""
        table = Table(expand=True, show_edge=False, pad_edge=False)
        inner = (self.console.width - 3 * (len(self.names) - 1)) // len(self.names)
        for name in self.names:
            table.add_column(name, ratio=1, overflow="fold")
        cells: list[Text] = []
        for text in self.texts:
            # Text, not str: rich would parse square brackets of an answer as markup.
            lines = Text(text.strip()).wrap(self.console, inner)
            cells.append(Text("\n").join(lines if height is None else lines[-height:]))
        table.add_row(*cells)
        return table

"""Columns of text as a terminal shows them."""

import io

from rich.console import Console

from xft.serving.side_by_side import SideBySideView


def test_view_shows_last_lines_while_growing_and_full_texts_at_the_end() -> None:
    out = io.StringIO()
    console = Console(file=out, width=40, height=8, force_terminal=True, color_system=None)
    with SideBySideView(("base", "tuned"), console) as view:
        view.append(0, "\n".join(f"left {i}" for i in range(20)))
        growing = out.getvalue()
        view.append(1, "right [b]is not markup[/b]")
    assert "left 19" in growing
    assert "left 0 " not in growing
    shown = out.getvalue()[len(growing) :]
    first = next(line for line in shown.splitlines() if "left 0 " in line)
    assert first.index("right [b]is") > first.index("left 0")
    assert "left 10" in shown
    final = shown.rpartition("\x1b[2K")[2]
    assert [line.split()[1] for line in final.splitlines() if "left" in line] == [str(i) for i in range(20)]
    assert max(len(line) for line in final.splitlines()) <= 40

"""The table of the benchmarks, against figures reckoned by hand."""

from pathlib import Path

import pytest

from benchmarks.bench_table import MARKS, table, write_between


def measured(tokens: float, total: float, loss: float) -> dict[str, float]:
    return {
        "tokens": tokens,
        "total": total,
        "targets": tokens / 2,
        "mfu": 0.25,
        "peak": 1.5,
        "loss": loss,
    }


def test_ratios_are_of_a_round_and_what_is_filled_up_is_said() -> None:
    rounds = {
        "one": [measured(300, 300, 1.5), measured(100, 100, 1.5), measured(200, 200, 1.5)],
        "two": [measured(100, 125, 1.7), measured(50, 62.5, 1.7), measured(50, 62.5, 1.7)],
    }
    *_, first, second = table(rounds, "one", {"one": "packed", "two": "not packed"}).splitlines()
    assert first == "| one: packed | 200 | 100 | 1.00 (1.00–1.00) | 25% | 1.50 | 1.5000 |"
    # 300/100, 100/50 and 200/50; the medians alone would give 4.
    assert second == "| two: not packed; 20% padding | 50 | 25 | 3.00 (2.00–4.00) | 25% | 1.50 | 1.7000 |"


def test_what_stands_around_the_marks_stays(tmp_path: Path) -> None:
    file = tmp_path / "page.md"
    file.write_text(f"above\n{MARKS[0]}\nold\n{MARKS[1]}\nbelow\n", encoding="utf-8")
    write_between(file, "new")
    assert file.read_text(encoding="utf-8") == f"above\n{MARKS[0]}\nnew\n{MARKS[1]}\nbelow\n"


def test_a_page_without_marks_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "page.md"
    file.write_text(f"above\n{MARKS[0]}\nold\n", encoding="utf-8")
    with pytest.raises(SystemExit, match="insert both where the table belongs"):
        write_between(file, "new")
    assert file.read_text(encoding="utf-8") == f"above\n{MARKS[0]}\nold\n"

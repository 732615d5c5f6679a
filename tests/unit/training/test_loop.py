"""Training loop: row origins in messages."""

from xft.training.loop import abbreviate


def test_abbreviate_counts_rows_beyond_the_maximum() -> None:
    rows = [f"a.jsonl:{number}" for number in range(10)]
    assert abbreviate(rows[:3]) == "a.jsonl:0, a.jsonl:1, a.jsonl:2"
    assert abbreviate(rows).endswith("a.jsonl:7 and 2 more")

"""Train and validation split, and exact duplicates."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from xft.data.splits import first_occurrences, split, stable_order
from xft.data.store.token_store import ROW, digest
from xft.errors import DataError


def rows_of(
    contents: list[int], groups: list[int] | None = None, tokens: list[int] | None = None
) -> np.ndarray:
    """Rows by what they say, with digests as a task makes them."""
    rows = np.zeros(len(contents), dtype=ROW)

    def name(numbers: list[int]) -> list[int]:
        return [digest(str(each).encode()) for each in numbers]

    rows["content"] = name(contents)
    rows["group"] = name(groups) if groups is not None else rows["content"]
    rows["tokens"] = name(tokens if tokens is not None else contents)
    return rows


@settings(max_examples=60, deadline=None)
@given(
    old=st.sets(st.integers(0, 10**6), min_size=30, max_size=60),
    new=st.sets(st.integers(0, 10**6), max_size=200),
    share=st.floats(0.1, 0.6),
    seed=st.integers(0, 2**31),
)
def test_row_stays_in_its_split_when_others_are_added(
    old: set[int], new: set[int], share: float, seed: int
) -> None:
    before, after = sorted(old), [*sorted(new - old), *sorted(old)]
    _, held = split(rows_of(before), share, seed)
    _, held_later = split(rows_of(after), share, seed)
    # At least one row is held out and one is not, also where the share takes none or all.
    if 1 < len(held) < len(before) - 1:
        assert {before[each] for each in held} == {after[each] for each in held_later} & old


@given(
    keys=st.lists(st.integers(0, 5), min_size=2, max_size=40),
    share=st.one_of(st.floats(0.01, 0.99), st.integers(1, 10)),
)
def test_groups_are_never_parted(keys: list[int], share: float) -> None:
    rows = rows_of(list(range(len(keys))), keys)
    try:
        train, held = split(rows, share, 0)
    except DataError:
        assert len(set(keys)) < 2 or share >= len(keys)
        return
    assert sorted([*train, *held]) == list(range(len(keys)))
    assert not {keys[each] for each in train} & {keys[each] for each in held}
    assert len(train)
    assert len(held)


def test_rows_that_become_the_same_tokens_stay_together_through_their_groups() -> None:
    """Rows 0 and 1 share tokens, 1 and 2 a group, 2 and 3 tokens: all four are one."""
    rows = rows_of([0, 1, 2, 3, 4, 5], [10, 11, 11, 12, 13, 14], [20, 20, 21, 21, 22, 23])
    for seed in range(30):
        _, held = split(rows, 0.4, seed)
        assert set(held) & {0, 1, 2, 3} in (set(), {0, 1, 2, 3})


def test_share_of_many_rows_is_kept_on_average() -> None:
    _, held = split(rows_of(list(range(20_000))), 0.05, 3)
    # 1,000 expected, with a standard deviation of 31.
    assert abs(len(held) - 1000) < 4 * 31


def test_other_seed_holds_out_other_rows() -> None:
    rows = rows_of(list(range(1000)))
    one, two = (set(split(rows, 0.1, seed)[1]) for seed in (0, 1))
    assert len(one & two) < 40


def test_first_of_each_keeps_the_order() -> None:
    assert first_occurrences(np.array([7, 3, 7, 5, 3, 9], dtype=np.uint64)).tolist() == [0, 1, 3, 5]


def test_ranks_are_a_permutation_that_follows_the_seed() -> None:
    digests = np.arange(50, dtype=np.uint64)
    assert sorted(stable_order(digests, 1)) == list(range(50))
    assert stable_order(digests, 1).tolist() != stable_order(digests, 2).tolist()
    assert stable_order(digests, 1).tolist() == stable_order(digests, 1).tolist()

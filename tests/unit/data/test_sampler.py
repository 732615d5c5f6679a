"""Sampler: a plan covers the data, shares it over ranks, and remembers nothing."""

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xft.data.sampler import BatchPlan, length_sorted_batches

LENGTHS = (5, 3, 8, 2, 7, 7, 1, 4, 6, 9, 2, 3, 8, 5, 10, 1, 1, 4, 6, 2, 3)

PLANS = st.builds(
    BatchPlan,
    lengths=st.lists(st.integers(1, 16), min_size=1, max_size=40).map(tuple),
    batch_size=st.integers(1, 4),
    accumulation=st.integers(1, 4),
    capacity=st.sampled_from([None, 16, 24]),
    seed=st.integers(0, 3),
    world_size=st.integers(1, 3),
    grouped=st.booleans(),
)


def windows(plan: BatchPlan, epoch: int) -> list[list[list[list[int]]]]:
    """``[step][rank]`` is the list of micro-batches."""
    return [
        [plan.window(epoch, step, rank) for rank in range(plan.world_size)]
        for step in range(plan.steps_per_epoch)
    ]


@settings(deadline=None, max_examples=60)
@given(plan=PLANS, epoch=st.integers(0, 3))
def test_windows_of_all_ranks_hold_every_sample_once(plan: BatchPlan, epoch: int) -> None:
    seen = [i for step in windows(plan, epoch) for rank in step for batch in rank for i in batch]
    assert sorted(seen) == list(range(len(plan.lengths)))


@settings(deadline=None, max_examples=60)
@given(plan=PLANS, epoch=st.integers(0, 3))
def test_ranks_get_equally_many_micro_batches(plan: BatchPlan, epoch: int) -> None:
    steps = windows(plan, epoch)
    for step in steps:
        assert len({len(rank) for rank in step}) == 1
        assert 1 <= len(step[0]) <= plan.accumulation
    # Only the end of an epoch may have less than a full window, and an empty micro-batch.
    for step in steps[:-1]:
        assert all(len(rank) == plan.accumulation and all(rank) for rank in step)
    empty = sum(not batch for step in steps for rank in step for batch in rank)
    assert empty < plan.world_size


@settings(deadline=None, max_examples=60)
@given(plan=PLANS, epoch=st.integers(0, 3))
def test_micro_batches_hold_batch_size_rows_of_the_capacity(plan: BatchPlan, epoch: int) -> None:
    room = plan.batch_size * (plan.capacity or max(plan.lengths))
    for batch in plan.epoch(epoch):
        assert sum(plan.lengths[index] for index in batch) <= room
        assert batch
        if plan.capacity is None:
            assert len(batch) <= plan.batch_size


@settings(deadline=None, max_examples=60)
@given(plan=PLANS)
def test_every_epoch_and_seed_has_as_many_rows_and_steps(plan: BatchPlan) -> None:
    other = dataclasses.replace(plan, seed=plan.seed + 17)
    counts = {len(each.rows(epoch)) for each in (plan, other) for epoch in range(5)}
    assert len(counts) == 1
    [rows] = counts
    assert plan.num_micro_batches == -(-rows // plan.batch_size)
    assert {len(plan.epoch(epoch)) for epoch in range(5)} == {plan.num_micro_batches}


@settings(deadline=None, max_examples=30)
@given(plan=PLANS, epoch=st.integers(0, 3))
def test_fresh_plan_asked_in_another_order_gives_the_same_windows(plan: BatchPlan, epoch: int) -> None:
    first = windows(plan, epoch)
    fresh = dataclasses.replace(plan)
    fresh.epoch(epoch + 1)
    for step in reversed(range(plan.steps_per_epoch)):
        for rank in reversed(range(plan.world_size)):
            assert fresh.window(epoch, step, rank) == first[step][rank]


@pytest.mark.parametrize("world_size", [1, 2, 3])
@pytest.mark.parametrize("capacity", [None, 16])
def test_ranks_together_take_the_same_steps_whatever_their_number(
    world_size: int, capacity: int | None
) -> None:
    """Accumulation 6 on 1 rank, 3 on 2 and 2 on 3 make the same optimizer steps."""
    alone = BatchPlan(LENGTHS, batch_size=1, accumulation=6, capacity=capacity)
    plan = dataclasses.replace(alone, accumulation=6 // world_size, world_size=world_size)
    assert plan.steps_per_epoch == alone.steps_per_epoch
    for step, ranks in enumerate(windows(plan, 0)):
        together = sorted(tuple(batch) for rank in ranks for batch in rank if batch)
        assert together == sorted(tuple(batch) for batch in alone.window(0, step))


@pytest.mark.parametrize("capacity", [None, 16])
def test_epochs_and_seeds_differ_in_order(capacity: int | None) -> None:
    plan = BatchPlan(LENGTHS, capacity=capacity, seed=1)
    orders = [plan.epoch(0), plan.epoch(1), plan.epoch(2), dataclasses.replace(plan, seed=2).epoch(0)]
    assert len({repr(each) for each in orders}) == 4


def test_epochs_differ_in_who_shares_a_row() -> None:
    plan = BatchPlan(tuple([4] * 40), capacity=16)
    shared = [{frozenset(row) for row in plan.rows(epoch)} for epoch in (0, 1)]
    assert shared[0] != shared[1]


@pytest.mark.parametrize("capacity", [None, 16])
def test_rows_stand_in_no_order_of_length(capacity: int | None) -> None:
    """Packing sorts by length; the epoch must not: the first steps would see long answers only."""
    plan = BatchPlan(LENGTHS * 4, capacity=capacity)
    longest = [max(plan.lengths[index] for index in row) for row in plan.rows(0)]
    assert longest != sorted(longest)
    assert longest != sorted(longest, reverse=True)


def test_steps_by_hand() -> None:
    # 21 samples, 2 a micro-batch: 11 micro-batches; 2 ranks by 2: 4 a step; 3 steps, the last of 3.
    plan = BatchPlan(LENGTHS, batch_size=2, accumulation=2, world_size=2)
    assert plan.num_micro_batches == 11
    assert plan.steps_per_epoch == 3
    assert [[len(rank) for rank in step] for step in windows(plan, 0)] == [[2, 2], [2, 2], [2, 2]]
    assert [len(batch) for rank in windows(plan, 0)[-1] for batch in rank] == [2, 1, 2, 0]


def test_fewer_samples_than_ranks_make_one_step() -> None:
    plan = BatchPlan((5,), accumulation=4, world_size=3)
    assert plan.steps_per_epoch == 1
    assert windows(plan, 0) == [[[[0]], [[]], [[]]]]


def test_in_order_puts_neighbours_in_length_together() -> None:
    assert length_sorted_batches([5, 1, 4, 1, 9], 2) == [[1, 3], [2, 0], [4]]
    assert length_sorted_batches([], 2) == []


def test_rows_of_like_length_are_padded_together() -> None:
    """In another order in each epoch, and with far less padding than by chance."""
    plan = BatchPlan(tuple(1 + each * 37 % 100 for each in range(1003)), batch_size=4)
    grouped = dataclasses.replace(plan, grouped=True)

    def padding(epoch: tuple[list[int], ...]) -> int:
        longest = [max(plan.lengths[each] for each in batch) * len(batch) for batch in epoch]
        return sum(longest) - sum(plan.lengths)

    assert padding(grouped.epoch(0)) < 0.1 * padding(plan.epoch(0))
    assert [len(batch) for batch in grouped.epoch(0)] == [4] * 250 + [3]
    assert grouped.epoch(0) != grouped.epoch(1)
    longest = [max(plan.lengths[each] for each in batch) for batch in grouped.epoch(0)]
    assert longest[:50] != sorted(longest[:50])
    assert dataclasses.replace(grouped).epoch(1) == grouped.epoch(1)

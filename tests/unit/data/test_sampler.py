"""Sampler: a plan covers the data, shares it over ranks, and remembers nothing."""

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xft.data.batching.sampler import EpochBatchSampler, length_sorted_batches

LENGTHS = (5, 3, 8, 2, 7, 7, 1, 4, 6, 9, 2, 3, 8, 5, 10, 1, 1, 4, 6, 2, 3)

PLANS = st.builds(
    EpochBatchSampler,
    lengths=st.lists(st.integers(1, 16), min_size=1, max_size=40).map(tuple),
    micro_batch_size=st.integers(1, 4),
    gradient_accumulation_steps=st.integers(1, 4),
    pack_length=st.sampled_from([None, 16, 24]),
    seed=st.integers(0, 3),
    world_size=st.integers(1, 3),
    group_by_length=st.booleans(),
)


def windows(plan: EpochBatchSampler, epoch: int) -> list[list[list[list[int]]]]:
    """``[step][rank]`` is the list of micro-batches."""
    return [
        [plan.micro_batches(epoch, step, rank) for rank in range(plan.world_size)]
        for step in range(plan.steps_per_epoch)
    ]


@settings(deadline=None, max_examples=60)
@given(plan=PLANS, epoch=st.integers(0, 3))
def test_windows_of_all_ranks_hold_every_sample_once(plan: EpochBatchSampler, epoch: int) -> None:
    seen = [i for step in windows(plan, epoch) for rank in step for batch in rank for i in batch]
    assert sorted(seen) == list(range(len(plan.lengths)))


@settings(deadline=None, max_examples=60)
@given(plan=PLANS, epoch=st.integers(0, 3))
def test_ranks_get_equally_many_micro_batches(plan: EpochBatchSampler, epoch: int) -> None:
    steps = windows(plan, epoch)
    for step in steps:
        assert len({len(rank) for rank in step}) == 1
        assert 1 <= len(step[0]) <= plan.gradient_accumulation_steps
    # Only the end of an epoch may have less than a full window, and an empty micro-batch.
    for step in steps[:-1]:
        assert all(len(rank) == plan.gradient_accumulation_steps and all(rank) for rank in step)
    empty = sum(not batch for step in steps for rank in step for batch in rank)
    assert empty < plan.world_size


@settings(deadline=None, max_examples=60)
@given(plan=PLANS, epoch=st.integers(0, 3))
def test_micro_batches_hold_batch_size_sequences_of_the_pack_length(
    plan: EpochBatchSampler, epoch: int
) -> None:
    room = plan.micro_batch_size * (plan.pack_length or max(plan.lengths))
    for batch in plan.epoch(epoch):
        assert sum(plan.lengths[index] for index in batch) <= room
        assert batch
        if plan.pack_length is None:
            assert len(batch) <= plan.micro_batch_size


@settings(deadline=None, max_examples=60)
@given(plan=PLANS)
def test_every_epoch_and_seed_has_as_many_rows_and_steps(plan: EpochBatchSampler) -> None:
    other = dataclasses.replace(plan, seed=plan.seed + 17)
    counts = {len(each.epoch_sequences(epoch)) for each in (plan, other) for epoch in range(5)}
    assert len(counts) == 1
    [rows] = counts
    assert plan.num_micro_batches == -(-rows // plan.micro_batch_size)
    assert {len(plan.epoch(epoch)) for epoch in range(5)} == {plan.num_micro_batches}


@settings(deadline=None, max_examples=30)
@given(plan=PLANS, epoch=st.integers(0, 3))
def test_fresh_plan_asked_in_another_order_gives_the_same_windows(
    plan: EpochBatchSampler, epoch: int
) -> None:
    first = windows(plan, epoch)
    fresh = dataclasses.replace(plan)
    fresh.epoch(epoch + 1)
    for step in reversed(range(plan.steps_per_epoch)):
        for rank in reversed(range(plan.world_size)):
            assert fresh.micro_batches(epoch, step, rank) == first[step][rank]


@pytest.mark.parametrize("world_size", [1, 2, 3])
@pytest.mark.parametrize("pack_length", [None, 16])
def test_ranks_together_take_the_same_steps_whatever_their_number(
    world_size: int, pack_length: int | None
) -> None:
    """Accumulation 6 on 1 rank, 3 on 2 and 2 on 3 make the same optimizer steps."""
    alone = EpochBatchSampler(
        LENGTHS, micro_batch_size=1, gradient_accumulation_steps=6, pack_length=pack_length
    )
    plan = dataclasses.replace(alone, gradient_accumulation_steps=6 // world_size, world_size=world_size)
    assert plan.steps_per_epoch == alone.steps_per_epoch
    for step, ranks in enumerate(windows(plan, 0)):
        together = sorted(tuple(batch) for rank in ranks for batch in rank if batch)
        assert together == sorted(tuple(batch) for batch in alone.micro_batches(0, step))


@pytest.mark.parametrize("pack_length", [None, 16])
def test_epochs_and_seeds_differ_in_order(pack_length: int | None) -> None:
    plan = EpochBatchSampler(LENGTHS, pack_length=pack_length, seed=1)
    orders = [plan.epoch(0), plan.epoch(1), plan.epoch(2), dataclasses.replace(plan, seed=2).epoch(0)]
    assert len({repr(each) for each in orders}) == 4


def test_epochs_differ_in_who_shares_a_row() -> None:
    plan = EpochBatchSampler(tuple([4] * 40), pack_length=16)
    shared = [{frozenset(row) for row in plan.epoch_sequences(epoch)} for epoch in (0, 1)]
    assert shared[0] != shared[1]


@pytest.mark.parametrize("pack_length", [None, 16])
def test_rows_stand_in_no_order_of_length(pack_length: int | None) -> None:
    """Packing sorts by length; the epoch must not: the first steps would see long answers only."""
    plan = EpochBatchSampler(LENGTHS * 4, pack_length=pack_length)
    longest = [max(plan.lengths[index] for index in row) for row in plan.epoch_sequences(0)]
    assert longest != sorted(longest)
    assert longest != sorted(longest, reverse=True)


def test_steps_by_hand() -> None:
    # 21 samples, 2 a micro-batch: 11 micro-batches; 2 ranks by 2: 4 a step; 3 steps, the last of 3.
    plan = EpochBatchSampler(LENGTHS, micro_batch_size=2, gradient_accumulation_steps=2, world_size=2)
    assert plan.num_micro_batches == 11
    assert plan.steps_per_epoch == 3
    assert [[len(rank) for rank in step] for step in windows(plan, 0)] == [[2, 2], [2, 2], [2, 2]]
    assert [len(batch) for rank in windows(plan, 0)[-1] for batch in rank] == [2, 1, 2, 0]


def test_fewer_samples_than_ranks_make_one_step() -> None:
    plan = EpochBatchSampler((5,), gradient_accumulation_steps=4, world_size=3)
    assert plan.steps_per_epoch == 1
    assert windows(plan, 0) == [[[[0]], [[]], [[]]]]


def test_in_order_puts_neighbours_in_length_together() -> None:
    assert length_sorted_batches([5, 1, 4, 1, 9], 2) == [[1, 3], [2, 0], [4]]
    assert length_sorted_batches([], 2) == []


def test_rows_of_like_length_are_padded_together() -> None:
    """In another order in each epoch, and with far less padding than by chance."""
    plan = EpochBatchSampler(tuple(1 + each * 37 % 100 for each in range(1003)), micro_batch_size=4)
    group_by_length = dataclasses.replace(plan, group_by_length=True)

    def padding(epoch: tuple[list[int], ...]) -> int:
        longest = [max(plan.lengths[each] for each in batch) * len(batch) for batch in epoch]
        return sum(longest) - sum(plan.lengths)

    assert padding(group_by_length.epoch(0)) < 0.1 * padding(plan.epoch(0))
    assert [len(batch) for batch in group_by_length.epoch(0)] == [4] * 250 + [3]
    assert group_by_length.epoch(0) != group_by_length.epoch(1)
    longest = [max(plan.lengths[each] for each in batch) for batch in group_by_length.epoch(0)]
    assert longest[:50] != sorted(longest[:50])
    assert dataclasses.replace(group_by_length).epoch(1) == group_by_length.epoch(1)


@settings(deadline=None, max_examples=30)
@given(plan=PLANS, epoch=st.integers(0, 3), count=st.integers(1, 4))
def test_iterations_repeat_each_step(plan: EpochBatchSampler, epoch: int, count: int) -> None:
    repeated = windows(dataclasses.replace(plan, num_iterations=count), epoch)
    assert repeated == [step for step in windows(plan, epoch) for _ in range(count)]

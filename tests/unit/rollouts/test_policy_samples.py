"""Layout of completions for the loss, and their tensors in checkpoints."""

import pytest
import torch
from helpers.rollouts import make_rollout

from xft.data import Collator
from xft.rollouts import (
    PolicyBatcher,
    PolicySample,
    RolloutConfig,
    policy_samples_from_tensors,
    policy_samples_to_tensors,
    to_policy_samples,
    with_old_log_probs,
)
from xft.types import IGNORE_INDEX, Batch


def make_batcher(pack_length: int = 100, padded: bool = False) -> PolicyBatcher:
    collator = Collator(layout="padded", pad_token_id=0) if padded else Collator()
    return PolicyBatcher(collator, RolloutConfig(num_generations=2, pack_length=pack_length))


def make_samples(*lengths: int, prompt: int = 3) -> list[PolicySample]:
    count = len(lengths)
    return to_policy_samples(
        [make_rollout([0.0] * count, prompt, lengths, tuple(float(index) for index in range(count)))]
    )


def lengths_of(batch: Batch) -> list[int]:
    if batch.attention_mask is None:
        return batch.seq_lens
    rows: list[int] = batch.attention_mask.sum(dim=1).tolist()
    return rows


def test_a_completion_follows_its_prompt_and_all_its_tokens_are_targets() -> None:
    (batch,) = make_batcher().batches(make_samples(2, 4))
    assert batch.seq_lens == [5, 7]
    assert batch.input_ids.tolist() == [[0, 1, 2, 20, 21, 0, 1, 2, 20, 21, 22, 23]]
    labels = [IGNORE_INDEX] * 3 + [20, 21] + [IGNORE_INDEX] * 3 + [20, 21, 22, 23]
    assert batch.labels.tolist() == [labels]
    assert batch.policy is not None
    assert batch.policy.sampling_log_probs.tolist() == pytest.approx([-0.2] * 2 + [-0.4] * 4)
    assert batch.policy.advantages.tolist() == [0.0, 1.0]
    assert batch.policy.old_log_probs is None


def test_completions_without_advantage_are_excluded() -> None:
    samples = to_policy_samples([make_rollout([0.0, 0.0], advantages=(float("nan"), 1.0))])
    assert [len(sample.sample) for sample in samples] == [7]


@pytest.mark.parametrize(("padded", "sizes"), [(False, [[5, 7], [5, 7]]), (True, [[5], [7], [5], [7]])])
def test_a_batch_has_at_most_pack_length_tokens(padded: bool, sizes: list[list[int]]) -> None:
    batches = make_batcher(13, padded).batches(make_samples(2, 4, 2, 4))
    assert [lengths_of(batch) for batch in batches] == sizes


def test_a_longer_completion_has_a_batch_of_its_own() -> None:
    assert [batch.seq_lens for batch in make_batcher(4).batches(make_samples(2, 4))] == [[5], [7]]


@pytest.mark.parametrize(
    ("pack_length", "padded", "expected"),
    [
        (18, False, [7, 7, 4]),  # two completions of 7 tokens leave tokens for a part of a third
        (18, True, [6, 6, 6]),
        (15, False, [7, 7]),  # a single token has no target
        (28, False, None),
        (7, False, None),
        (6, False, None),
    ],
)
def test_a_full_batch_has_the_tokens_that_shorter_completions_could_have(
    pack_length: int, padded: bool, expected: list[int] | None
) -> None:
    batch = make_batcher(pack_length, padded).full_batch(make_samples(4, 4, 4, 4))
    assert (None if batch is None else lengths_of(batch)) == expected
    if batch is not None:
        assert batch.policy is not None
        assert len(batch.policy.sampling_log_probs) == batch.num_targets
        assert len(batch.policy.advantages) == batch.num_samples


def test_old_log_probs_are_laid_out_as_the_targets() -> None:
    samples = with_old_log_probs(make_samples(2, 4), torch.arange(6.0))
    batches = make_batcher(7).batches(samples)
    policies = [batch.policy for batch in batches if batch.policy is not None]
    old = [policy.old_log_probs.tolist() for policy in policies if policy.old_log_probs is not None]
    assert old == [[0.0, 1.0], [2.0, 3.0, 4.0, 5.0]]


@pytest.mark.parametrize("has_old", [False, True])
@pytest.mark.parametrize("lengths", [(), (2, 4)])
def test_completions_survive_the_conversion_to_tensors(lengths: tuple[int, ...], has_old: bool) -> None:
    samples = make_samples(*lengths)
    if has_old:
        samples = with_old_log_probs(samples, torch.rand(sum(lengths)))
    restored = policy_samples_from_tensors(policy_samples_to_tensors(samples))
    assert len(restored) == len(samples)
    for one, other in zip(restored, samples, strict=True):
        assert one.sample.input_ids.tolist() == other.sample.input_ids.tolist()
        assert one.sample.labels.tolist() == other.sample.labels.tolist()
        assert one.advantage == other.advantage
        assert torch.equal(one.sampling_log_probs, other.sampling_log_probs)
        assert (one.old_log_probs is None) == (other.old_log_probs is None)
        if one.old_log_probs is not None and other.old_log_probs is not None:
            assert torch.equal(one.old_log_probs, other.old_log_probs)


def test_a_rank_without_completions_has_a_batch_without_targets() -> None:
    batch = make_batcher().dummy_batch(make_samples(2)[0].sample)
    assert batch.num_targets == 0
    assert batch.policy is not None
    assert len(batch.policy.advantages) == 0

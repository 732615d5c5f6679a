"""Sequence parallelism in one process: each rank's view is computed in turn."""

from typing import Any

import pytest
import torch
from torch import Tensor, distributed
from transformers import LlamaConfig

from xft.distributed import (
    all_reduce_sum,
    check_sequence_parallel,
    heads_to_seq,
    padded_length,
    seq_to_heads,
    sequence_parallel,
    split_sequence,
)
from xft.errors import ConfigError
from xft.types import SequenceParallelGroup


def groups(size: int) -> list[SequenceParallelGroup]:
    return [SequenceParallelGroup(rank, size, None) for rank in range(size)]


def config(heads: int) -> LlamaConfig:
    return LlamaConfig(num_attention_heads=heads, hidden_size=16 * heads)


@pytest.mark.parametrize(("length", "size", "share"), [(7, 2, 4), (8, 4, 2), (1, 3, 1), (9, 3, 3)])
def test_split_sequence_slices_concatenate_to_padded_sequence(length: int, size: int, share: int) -> None:
    whole = torch.arange(1, length + 1)[None]
    shares = [split_sequence(whole, each, -100) for each in groups(size)]
    assert {each.shape for each in shares} == {(1, share)}
    joined = torch.cat(shares, dim=1)
    assert padded_length(length, groups(size)[0]) == joined.shape[1] == share * size
    assert torch.equal(joined[:, :length], whole)
    assert (joined[:, length:] == -100).all()


@pytest.fixture
def exchange(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Emulate the all-to-all of several ranks: collect the pieces of all ranks, then deliver them."""

    def together(function: Any, states: list[Tensor]) -> list[Tensor]:
        sent: list[Tensor] = []

        def collect(pieces: Tensor, _: SequenceParallelGroup) -> Tensor:
            sent.append(pieces)
            return pieces

        monkeypatch.setattr(sequence_parallel, "_all_to_all", collect)
        for each, group in zip(states, groups(len(states)), strict=True):
            function(each, group)

        def hand_out(_: Tensor, group: SequenceParallelGroup) -> Tensor:
            return torch.stack([each[group.rank] for each in sent])

        monkeypatch.setattr(sequence_parallel, "_all_to_all", hand_out)
        return [function(each, group) for each, group in zip(states, groups(len(states)), strict=True)]

    return together


@pytest.mark.parametrize(("heads", "size"), [(4, 2), (6, 3), (4, 4)])
def test_seq_to_heads_and_heads_to_seq_are_inverse(exchange: Any, heads: int, size: int) -> None:
    whole = torch.randn(1, heads, 3 * size, 5)
    shares = list(whole.chunk(size, dim=2))
    by_head = exchange(seq_to_heads, shares)
    assert torch.equal(torch.cat(by_head, dim=1), whole)
    back = exchange(heads_to_seq, [each.transpose(1, 2) for each in by_head])
    assert torch.equal(torch.cat(back, dim=1), whole.transpose(1, 2))


@pytest.mark.parametrize(("queries", "keys", "size"), [(4, 2, 4), (12, 3, 2), (14, 2, 7), (9, 1, 3)])
def test_seq_to_heads_gives_each_rank_the_key_heads_of_its_query_heads(
    exchange: Any, queries: int, keys: int, size: int
) -> None:
    key = torch.arange(keys).float()[None, :, None, None].expand(1, keys, 2 * size, 1)
    expected = torch.arange(queries) // (queries // keys)  # the key head of each query head
    received = exchange(seq_to_heads, list(key.chunk(size, dim=2)))
    for rank, heads in enumerate(received):
        share = queries // size
        assert share % heads.shape[1] == 0
        key_heads = heads[0, :, 0, 0].repeat_interleave(share // heads.shape[1])
        assert key_heads.tolist() == expected[rank * share : (rank + 1) * share].tolist()


def test_all_reduce_sum_backward_is_identity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "all_reduce", lambda tensor, group: tensor.mul_(3))
    part = torch.tensor([2.0, 5.0], requires_grad=True)
    total = all_reduce_sum(part, SequenceParallelGroup(0, 3, None))
    assert total.tolist() == [6.0, 15.0]
    (total * torch.tensor([1.0, 10.0])).sum().backward()
    assert part.grad is not None
    assert part.grad.tolist() == [1.0, 10.0]
    assert all_reduce_sum(part, None) is part


def test_check_sequence_parallel_rejects_uneven_heads_and_rows_that_cannot_be_split() -> None:
    check_sequence_parallel(config(14), "", 7)
    with pytest.raises(ConfigError) as error:
        check_sequence_parallel(config(14), "", 4)
    assert (error.value.key, error.value.got) == ("strategy.sequence_parallel_size", 4)
    assert error.value.expected.endswith("14 attention heads: 1, 2, 7, 14")
    with pytest.raises(ConfigError) as error:
        check_sequence_parallel(config(14), "padded", 2)
    assert error.value.expected.startswith("1, because")
    assert error.value.expected.endswith("padded")

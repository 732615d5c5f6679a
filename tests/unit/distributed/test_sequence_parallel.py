"""How tokens and heads are shared out, without ranks: each rank's view is made in turn."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, distributed

from xft.distributed import (
    add_up,
    check_sequence_parallel,
    sequence_parallel,
    share_out,
    to_heads,
    to_tokens,
    whole_length,
)
from xft.errors import ConfigError
from xft.types import SequenceGroup


def groups(size: int) -> list[SequenceGroup]:
    return [SequenceGroup(rank, size, None) for rank in range(size)]


def config(heads: int) -> Any:
    inner = SimpleNamespace(num_attention_heads=heads)
    return SimpleNamespace(get_text_config=lambda: inner)


@pytest.mark.parametrize(("length", "size", "share"), [(7, 2, 4), (8, 4, 2), (1, 3, 1), (9, 3, 3)])
def test_shares_joined_are_the_whole(length: int, size: int, share: int) -> None:
    whole = torch.arange(1, length + 1)[None]
    shares = [share_out(whole, each, -100) for each in groups(size)]
    assert {each.shape for each in shares} == {(1, share)}
    joined = torch.cat(shares, dim=1)
    assert whole_length(length, groups(size)[0]) == joined.shape[1] == share * size
    assert torch.equal(joined[:, :length], whole)
    assert (joined[:, length:] == -100).all()


@pytest.fixture
def exchange(monkeypatch: pytest.MonkeyPatch) -> Any:
    """All ranks in one process: what each sends is collected first, then handed out."""

    def together(function: Any, states: list[Tensor]) -> list[Tensor]:
        sent: list[Tensor] = []

        def collect(pieces: Tensor, _: SequenceGroup) -> Tensor:
            sent.append(pieces)
            return pieces

        monkeypatch.setattr(sequence_parallel, "_exchange", collect)
        for each, group in zip(states, groups(len(states)), strict=True):
            function(each, group)

        def hand_out(_: Tensor, group: SequenceGroup) -> Tensor:
            return torch.stack([each[group.rank] for each in sent])

        monkeypatch.setattr(sequence_parallel, "_exchange", hand_out)
        return [function(each, group) for each, group in zip(states, groups(len(states)), strict=True)]

    return together


@pytest.mark.parametrize(("heads", "size"), [(4, 2), (6, 3), (4, 4)])
def test_heads_of_all_tokens_and_back(exchange: Any, heads: int, size: int) -> None:
    whole = torch.randn(1, heads, 3 * size, 5)
    shares = list(whole.chunk(size, dim=2))
    by_head = exchange(to_heads, shares)
    assert torch.equal(torch.cat(by_head, dim=1), whole)
    back = exchange(to_tokens, [each.transpose(1, 2) for each in by_head])
    assert torch.equal(torch.cat(back, dim=1), whole.transpose(1, 2))


@pytest.mark.parametrize(("queries", "keys", "size"), [(4, 2, 4), (12, 3, 2), (14, 2, 7), (9, 1, 3)])
def test_each_rank_has_the_key_heads_of_its_query_heads(
    exchange: Any, queries: int, keys: int, size: int
) -> None:
    key = torch.arange(keys).float()[None, :, None, None].expand(1, keys, 2 * size, 1)
    wanted = torch.arange(queries) // (queries // keys)  # the key head of each query head
    found = exchange(to_heads, list(key.chunk(size, dim=2)))
    for rank, own in enumerate(found):
        share = queries // size
        assert share % own.shape[1] == 0
        seen = own[0, :, 0, 0].repeat_interleave(share // own.shape[1])
        assert seen.tolist() == wanted[rank * share : (rank + 1) * share].tolist()


def test_a_sum_hands_its_gradient_on_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "all_reduce", lambda tensor, group: tensor.mul_(3))
    part = torch.tensor([2.0, 5.0], requires_grad=True)
    total = add_up(part, SequenceGroup(0, 3, None))
    assert total.tolist() == [6.0, 15.0]
    (total * torch.tensor([1.0, 10.0])).sum().backward()
    assert part.grad is not None
    assert part.grad.tolist() == [1.0, 10.0]
    assert add_up(part, None) is part


def test_what_cannot_be_shared_out_is_refused() -> None:
    check_sequence_parallel(config(14), True, 7)
    with pytest.raises(ConfigError, match=r"got 4, and the model has 14 .* take one of 1, 2, 7, 14$"):
        check_sequence_parallel(config(14), True, 4)
    with pytest.raises(ConfigError, match="needs its samples padded"):
        check_sequence_parallel(config(14), False, 2)

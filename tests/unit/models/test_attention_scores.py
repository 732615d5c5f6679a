"""Attention with all scores in memory."""

import torch

from xft.models.attention_scores import Scores, attention_scores


def test_query_of_left_padding_sees_no_key_and_is_finite() -> None:
    """Values of padding that are NaN would reach all queries of the next layer: zero times NaN is NaN."""
    states = torch.randn(1, 2, 3, 4)
    mask = torch.tensor([[False, False, False], [False, True, False], [False, True, True]])
    output = attention_scores(states, states, states, mask, Scores(0.5, 0.0, None, 30.0, None))
    assert output.isfinite().all()
    assert torch.equal(output[:, :, 1], states[:, :, 1])

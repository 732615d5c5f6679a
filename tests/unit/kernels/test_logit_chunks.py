"""Largest logits of rows."""

import pytest
import torch

from xft.kernels.logit_chunks import blocked_argmax


@pytest.mark.parametrize("size", [3, 255, 256, 511, 512, 513, 700, 1024, 5000])
def test_blocked_argmax_returns_maximum_and_first_index_like_torch(size: int) -> None:
    """Rows with few different values, so that their maximum has many indices."""
    rows = torch.randint(4, (200, size), generator=torch.Generator().manual_seed(size)).float()
    rows[0], rows[1, -1], rows[2, size // 2 :] = 0.0, 9.0, 9.0
    values, indices = blocked_argmax(rows)
    assert torch.equal(indices[:, 0], rows.argmax(dim=1))
    assert torch.equal(values[:, 0], rows.amax(dim=1))

import numpy as np
import pytest
import torch

from xft.types import IGNORE_INDEX, Sample


def test_ignore_index_equals_default_of_torch_cross_entropy() -> None:
    assert torch.nn.CrossEntropyLoss().ignore_index == IGNORE_INDEX


@pytest.mark.parametrize(
    ("labels", "count"),
    [
        ([IGNORE_INDEX, 5, 6], 2),
        ([4, 5, 6], 2),  # no token predicts the first one
        ([4], 0),
        ([IGNORE_INDEX] * 3, 0),
        ([4, IGNORE_INDEX, 0], 1),  # id 0 is a target like any other
    ],
)
def test_num_targets_counts_labels_with_a_token_before_them(labels: list[int], count: int) -> None:
    sample = Sample(np.arange(len(labels), dtype=np.int32), np.asarray(labels, dtype=np.int32))
    assert sample.num_targets == count
    assert len(sample) == len(labels)

"""The device of these tests."""

import pytest
import torch


@pytest.fixture(scope="session")
def gpu() -> torch.device:
    """The first GPU, with products of fp32 in fp32."""
    if not torch.cuda.is_available():
        pytest.skip("no GPU is available")
    torch.backends.cuda.matmul.allow_tf32 = False
    return torch.device("cuda")

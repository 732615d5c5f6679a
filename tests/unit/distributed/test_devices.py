"""Device of this process, seeds and autocast."""

import random

import numpy as np
import pytest
import torch

from xft.distributed.devices import autocast, resolve_device, seed_everything
from xft.errors import ConfigError


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with four GPUs, on which this is local rank 3."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setenv("LOCAL_RANK", "3")


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv("LOCAL_RANK", "3")


@pytest.mark.usefixtures("gpus")
@pytest.mark.parametrize(
    ("name", "device"), [("auto", "cuda:3"), ("cuda", "cuda:3"), ("cuda:1", "cuda:1"), ("cpu", "cpu")]
)
def test_resolve_device_with_gpus_is_the_one_of_the_local_rank_unless_named(name: str, device: str) -> None:
    assert resolve_device(name) == torch.device(device)


@pytest.mark.usefixtures("gpus")
def test_resolve_device_without_launcher_is_the_first_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LOCAL_RANK")
    assert resolve_device() == torch.device("cuda:0")


@pytest.mark.usefixtures("gpus")
def test_resolve_device_more_ranks_than_gpus_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "4")
    with pytest.raises(ConfigError) as error:
        resolve_device()
    assert (error.value.key, error.value.got) == ("strategy.device", "cuda:4")


@pytest.mark.usefixtures("no_gpu")
def test_resolve_device_auto_without_gpu_is_the_cpu() -> None:
    assert resolve_device() == torch.device("cpu")


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize("name", ["cuda", "cuda:0", "cuda:x", "gpu", "tpu:0", ""])
def test_resolve_device_unusable_name_raises(name: str) -> None:
    with pytest.raises(ConfigError) as error:
        resolve_device(name)
    assert (error.value.key, error.value.got) == ("strategy.device", name)


@pytest.mark.usefixtures("gpus")
@pytest.mark.parametrize("name", ["cuda:x", "cuda:", "cuda0", "cuda:4"])
def test_resolve_device_malformed_or_absent_gpu_raises(name: str) -> None:
    with pytest.raises(ConfigError) as error:
        resolve_device(name)
    assert (error.value.key, error.value.got) == ("strategy.device", name)


def draws() -> list[float]:
    return [random.random(), float(np.random.rand()), float(torch.rand(()))]


def test_seed_everything_repeats_all_generators_and_differs_by_rank() -> None:
    seed_everything(5)
    first = draws()
    seed_everything(5)
    assert draws() == first
    seed_everything(5, rank=1)
    assert not set(draws()) & set(first)
    seed_everything(4, rank=1)
    assert draws() == first


def test_seed_everything_large_seed_fits_numpy() -> None:
    seed_everything(2**32 - 1, rank=2)
    first = float(np.random.rand())
    np.random.seed(1)
    assert float(np.random.rand()) == first


@pytest.mark.parametrize(
    ("dtype", "expected"), [(None, torch.float32), (torch.bfloat16, torch.bfloat16)], ids=str
)
def test_autocast_computes_in_the_dtype_if_given(dtype: torch.dtype | None, expected: torch.dtype) -> None:
    a = torch.ones(2, 2)
    with autocast(torch.device("cpu"), dtype):
        assert (a @ a).dtype is expected
    assert (a @ a).dtype is torch.float32

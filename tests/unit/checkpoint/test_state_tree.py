"""Training state survives JSON and safetensors bit for bit."""

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from xft.checkpoint.shards import open_shards
from xft.checkpoint.state_tree import flatten_state, get_rng_state, set_rng_state, unflatten_state

CPU = torch.device("cpu")


def through_files(tree: Any, folder: Path) -> Any:
    """Write and read a tree."""
    tensors: dict[str, Tensor] = {}
    text = json.dumps(flatten_state(tree, tensors, "tree"))
    save_file(tensors, folder / "tensors")
    return unflatten_state(json.loads(text), load_file(folder / "tensors"), open_shards(folder, []))


def test_unflatten_state_inverts_flatten_state(tmp_path: Path) -> None:
    tree = {
        0: {"step": torch.tensor(3.0), "deep": {"state1": torch.arange(4, dtype=torch.uint8)}},
        "betas": (0.9, 0.999),
        "params": [0, 1, [2]],
        "none": None,
        "tensor": "a string under a key of the format itself",
        "items": [[1, 2]],
        "third": 1 / 3,
        "infinite": float("inf"),
        "yes": True,
    }
    back = through_files(tree, tmp_path)
    assert torch.equal(back[0]["deep"].pop("state1"), tree[0]["deep"].pop("state1"))  # type: ignore[index]
    assert torch.equal(back[0].pop("step"), tree[0].pop("step"))  # type: ignore[index]
    assert back == tree
    assert isinstance(back["betas"], tuple)


def test_flatten_state_unsupported_type_raises_with_its_path() -> None:
    with pytest.raises(TypeError, match=r"tree\.a\.1 is a set"):
        flatten_state({"a": [1, {2}]}, {}, "tree")


def test_flatten_state_copies_tensors() -> None:
    live = torch.zeros(3)
    tensors: dict[str, Tensor] = {}
    flatten_state(live, tensors, "live")
    live += 1
    assert torch.equal(tensors["live"], torch.zeros(3))


def test_flatten_state_reuses_memory_of_equal_shape() -> None:
    first: dict[str, Tensor] = {}
    second: dict[str, Tensor] = {}
    live = {"same": torch.zeros(3), "grown": torch.zeros(2)}
    flatten_state(live, first, "live")
    live["same"] += 1
    live["grown"] = torch.ones(4)
    flatten_state(live, second, "live", first)
    assert second["live.same"].data_ptr() == first["live.same"].data_ptr()
    assert torch.equal(second["live.same"], torch.ones(3))
    assert torch.equal(second["live.grown"], torch.ones(4))


def _train(parameter: Tensor, optimizer: torch.optim.Optimizer, lr_scheduler: Any, steps: int) -> None:
    for _ in range(steps):
        parameter.grad = torch.sin(parameter.detach() * 7)
        optimizer.step()
        lr_scheduler.step()


def _fresh() -> tuple[Tensor, torch.optim.Optimizer, Any]:
    parameter = torch.linspace(-1, 1, 11, requires_grad=True)
    optimizer = torch.optim.AdamW([parameter], lr=1e-2, weight_decay=0.1)
    return parameter, optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))


def test_adamw_resumes_bit_equal(tmp_path: Path) -> None:
    whole, optimizer, lr_scheduler = _fresh()
    _train(whole, optimizer, lr_scheduler, 9)
    first, optimizer, lr_scheduler = _fresh()
    _train(first, optimizer, lr_scheduler, 4)
    kept = {"optimizer": optimizer.state_dict(), "lr_scheduler": lr_scheduler.state_dict()}
    back = through_files(kept, tmp_path)
    second, optimizer, lr_scheduler = _fresh()
    with torch.no_grad():
        second.copy_(first)
    optimizer.load_state_dict(back["optimizer"])
    lr_scheduler.load_state_dict(back["lr_scheduler"])
    _train(second, optimizer, lr_scheduler, 5)
    assert torch.equal(second, whole)
    assert lr_scheduler.get_last_lr() == [1e-2 / 10]


def test_rng_states_of_all_generators_are_restored(tmp_path: Path) -> None:
    def draw() -> list[float]:
        return [random.gauss(0, 1), float(np.random.normal()), float(torch.randn(())), random.random()]

    draw()  # leaves Python's and NumPy's generators with half a pair of normal numbers
    state = through_files(get_rng_state(CPU), tmp_path)
    expected = [draw() for _ in range(3)]
    random.seed(5)
    np.random.seed(5)
    torch.manual_seed(5)
    assert [draw() for _ in range(3)] != expected
    set_rng_state(state, CPU)
    assert [draw() for _ in range(3)] == expected

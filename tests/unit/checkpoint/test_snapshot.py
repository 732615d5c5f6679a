"""Snapshots of a run: size, files, and the state that a run resumes with."""

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.strategies import tiny_strategy, train_steps
from safetensors.torch import load_file
from torch import Tensor

from xft.checkpoint.manifest import write_manifest
from xft.checkpoint.model_weights import gather_cpu_state_dict, make_weights_writer
from xft.checkpoint.resume_state import (
    STATE_FILE,
    TENSORS_FILE,
    ResumeState,
    RunState,
    read_resume_state,
)
from xft.checkpoint.shards import CheckpointShard
from xft.checkpoint.snapshot import Snapshot, collect_training_state, load_training_state
from xft.checkpoint.state_tree import get_rng_state
from xft.errors import CheckpointError
from xft.models import unwrap
from xft.strategies import SingleDevice

CPU = torch.device("cpu")
RUN = RunState(3, 30, None, "abc", {"world_size": 1}, {"seed": 1}, {}, {})


def snapshot(tensors: dict[str, Tensor], weights: dict[str, Tensor], **options: Any) -> Snapshot:
    return Snapshot(RUN, {}, [], tensors, weights, {"a/b.md": b"text"}, lambda *_: None, **options)


def test_total_bytes_counts_shared_memory_once_and_the_shards_of_all_ranks() -> None:
    tied = torch.zeros(10)
    one = snapshot({"t": torch.zeros(3)}, {"a": tied})
    two = snapshot({"t": torch.zeros(3)}, {"a": tied, "b": tied})
    assert two.total_bytes == one.total_bytes
    larger = snapshot({"t": torch.zeros(3)}, {"a": tied, "b": tied.clone()})
    assert larger.total_bytes == one.total_bytes + 40
    shard = CheckpointShard(0, 2, "step_3", {"m": torch.zeros(5)}, 1.0)
    sharded = replace(one, shard=shard)
    assert sharded.total_bytes == one.total_bytes + shard.total_bytes


def test_total_bytes_is_the_size_of_the_files(tmp_path: Path) -> None:
    """Up to the headers of safetensors files."""
    weights = {"w": torch.zeros(5000)}
    written = replace(
        snapshot({"t": torch.zeros(3000)}, weights), write_weights=make_weights_writer(unwrapped(tmp_path))
    )
    folder = tmp_path / "step_3"
    folder.mkdir()
    written.write(folder)
    assert (folder / "a" / "b.md").read_bytes() == b"text"
    total = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    config = (folder / "config.json").stat().st_size if (folder / "config.json").exists() else 0
    assert 0 <= total - config - written.total_bytes < 1000


def unwrapped(folder: Path) -> Any:
    return unwrap(tiny_strategy(folder / "run").model).model


@pytest.fixture
def strategy(tmp_path: Path) -> SingleDevice:
    strategy = tiny_strategy(tmp_path / "run")
    train_steps(strategy, 2)
    return strategy


def save(
    strategy: SingleDevice, folder: Path, rng_states: Sequence[Any] = (), save_optimizer_state: bool = True
) -> ResumeState:
    """Write a checkpoint, and read its JSON."""
    folder.mkdir()
    model = unwrap(strategy.model).model
    training, tensors, _ = collect_training_state(strategy, rng_states, save_optimizer_state, {})
    weights = gather_cpu_state_dict(model, {}, strategy.summon_full_params)
    Snapshot(RUN, training, [], tensors, weights, {}, make_weights_writer(model)).write(folder)
    write_manifest(folder, {})
    return read_resume_state(folder)


def test_collect_training_state_is_a_copy_that_training_does_not_change(strategy: SingleDevice) -> None:
    training, tensors, shards = collect_training_state(strategy, [], True, {})
    before = {name: tensor.clone() for name, tensor in tensors.items()}
    train_steps(strategy, 1)
    assert before
    assert all(torch.equal(tensor, before[name]) for name, tensor in tensors.items())
    assert shards == {}
    json.dumps(training)


def test_collect_training_state_overwrites_the_memory_of_an_earlier_copy(strategy: SingleDevice) -> None:
    _, first, _ = collect_training_state(strategy, [], True, {})
    train_steps(strategy, 1)
    _, second, _ = collect_training_state(strategy, [], True, first)
    _, fresh, _ = collect_training_state(strategy, [], True, {})
    assert {name: tensor.data_ptr() for name, tensor in second.items()} == {
        name: tensor.data_ptr() for name, tensor in first.items()
    }
    assert all(torch.equal(tensor, fresh[name]) for name, tensor in second.items())


def test_write_without_optimizer_state_has_no_tensors(strategy: SingleDevice, tmp_path: Path) -> None:
    save(strategy, tmp_path / "step_3", save_optimizer_state=False)
    assert load_file(tmp_path / "step_3" / TENSORS_FILE) == {}
    content = json.loads((tmp_path / "step_3" / STATE_FILE).read_text(encoding="utf-8"))
    assert (content["step"], content["tokens_seen"], content["shards"]) == (3, 30, [])


def test_load_training_state_sets_the_rate_of_the_current_schedule(
    strategy: SingleDevice, tmp_path: Path
) -> None:
    """After 2 steps the factor of the saved schedule is 1/3; that of the resumed run, 0.5 ** 2."""
    assert strategy.optimizer.param_groups[0]["lr"] == pytest.approx(0.01 / 3)
    state = save(strategy, tmp_path / "step_3")
    other = tiny_strategy(tmp_path / "other", seed=1, factor=lambda step: 0.5**step)
    load_training_state(state, other)
    assert other.optimizer.param_groups[0]["lr"] == pytest.approx(0.01 / 4)
    assert other.lr_scheduler.get_last_lr() == [pytest.approx(0.01 / 4)]
    train_steps(other, 1)
    assert other.lr_scheduler.get_last_lr() == [pytest.approx(0.01 / 8)]


@pytest.mark.parametrize(("rank", "restored"), [(0, True), (1, True), (2, False)])
def test_load_training_state_restores_the_generators_of_the_rank_if_it_was_saved(
    strategy: SingleDevice, tmp_path: Path, rank: int, restored: bool
) -> None:
    states, expected = [], []
    for seed in (1, 2):
        random.seed(seed)
        torch.manual_seed(seed)
        states.append(get_rng_state(CPU))
        expected.append((random.random(), float(torch.rand(()))))
    state = save(strategy, tmp_path / "step_3", states)
    other = tiny_strategy(tmp_path / "other")
    other.rank = rank
    load_training_state(state, other)
    assert ((random.random(), float(torch.rand(()))) in expected[rank : rank + 1]) is restored


def truncate(folder: Path) -> None:
    (folder / TENSORS_FILE).write_bytes(b"x")


def delete_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def drop_tensor(folder: Path) -> None:
    path = folder / STATE_FILE
    content = json.loads(path.read_text(encoding="utf-8"))
    content["training"] = {"items": {"optimizer": {"tensor": "no.such.tensor"}}}
    path.write_text(json.dumps(content), encoding="utf-8")


@pytest.mark.parametrize("damage", [truncate, delete_weights, drop_tensor])
def test_load_training_state_of_a_damaged_checkpoint_raises_with_its_folder(
    strategy: SingleDevice, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    folder = tmp_path / "step_3"
    save(strategy, folder)
    damage(folder)
    with pytest.raises(CheckpointError) as error:
        load_training_state(read_resume_state(folder), strategy)
    assert error.value.key == str(folder)

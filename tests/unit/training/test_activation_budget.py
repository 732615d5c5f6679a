"""As many layers are made again as the memory asks for."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from helpers.strategies import FakeStrategy
from transformers import AutoModelForCausalLM, LlamaConfig

from xft.data import Collator, EpochBatchSampler
from xft.models import ATTN_IMPLEMENTATION, LoadedModel
from xft.models.activation_checkpointing import checkpointed_layers
from xft.training import activation_budget
from xft.training.activation_budget import choose_checkpointed_layers, largest_tokens
from xft.types import Sample

LAYERS = 6
STATE = 4 * 4
"""Bytes beside the activations for each trained weight of fp32."""


class _Rows:
    def __init__(self, *lengths: int) -> None:
        self.lengths = np.asarray(lengths)

    def __getitem__(self, index: int) -> Sample:
        ids = np.full(self.lengths[index], 7, dtype=np.int32)
        return Sample(ids, ids.copy())


@pytest.fixture
def loaded() -> Any:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=300, hidden_size=64, intermediate_size=128, num_hidden_layers=LAYERS, num_attention_heads=4,
        num_key_value_heads=2, head_dim=16, attn_implementation=ATTN_IMPLEMENTATION,
    )  # fmt: skip
    return LoadedModel(AutoModelForCausalLM.from_config(config), SimpleNamespace(pad_token_id=0))


def _fit(
    monkeypatch: pytest.MonkeyPatch, loaded: Any, room: int, strategy: FakeStrategy | None = None
) -> tuple[int, str]:
    """How many layers are made again with so much memory beside the state, and what is said."""
    trained = sum(each.numel() for each in loaded.model.parameters())
    monkeypatch.setattr(activation_budget, "available_bytes", lambda _: room + STATE * trained)
    monkeypatch.setattr(activation_budget, "device_limit", lambda *_: 0)
    monkeypatch.setattr(activation_budget, "FIXED_OVERHEAD_BYTES", 0)
    rows = _Rows(300, 20, 500)
    plan: Any = SimpleNamespace(
        batches=EpochBatchSampler((300, 20, 500), pack_length=1000, micro_batch_size=2)
    )
    said = choose_checkpointed_layers(loaded, strategy or FakeStrategy(), rows, plan, Collator())  # type: ignore[arg-type]
    marks = [each.gradient_checkpointing for each in checkpointed_layers(loaded.base)]
    assert marks == sorted(marks, reverse=True)
    return sum(marks), said


def test_no_more_layers_are_made_again_than_it_takes(monkeypatch: pytest.MonkeyPatch, loaded: Any) -> None:
    """What a layer of 2000 tokens needs is read from the point where the first is given up."""
    assert _fit(monkeypatch, loaded, 10**12) == (0, "")
    nothing, said = _fit(monkeypatch, loaded, 0)
    assert nothing == LAYERS
    assert said.startswith("activation checkpointing: 6 of 6 layers")
    assert said.endswith("may still not fit")
    assert "2,000 tokens" in said
    rooms = np.linspace(0, 400e6, 81).astype(int).tolist()
    found = [_fit(monkeypatch, loaded, each)[0] for each in rooms]
    assert found == sorted(found, reverse=True)
    # To make but one of them again frees nothing: it is there at once while it is made.
    assert set(found) == {0, *range(2, LAYERS + 1)}


def test_all_ranks_make_the_same_layers_again(monkeypatch: pytest.MonkeyPatch, loaded: Any) -> None:
    count, said = _fit(monkeypatch, loaded, 10**12, FakeStrategy(0, 3))
    assert count == 3
    assert "3 of 6" in said


def test_ranks_that_share_tokens_out_keep_their_share(monkeypatch: pytest.MonkeyPatch, loaded: Any) -> None:
    _, said = _fit(monkeypatch, loaded, 0, FakeStrategy(world_size=4, data_world_size=2))
    assert "a batch of 1,000 tokens" in said


def test_a_model_in_shares_makes_every_layer_again(monkeypatch: pytest.MonkeyPatch, loaded: Any) -> None:
    assert _fit(monkeypatch, loaded, 10**12, FakeStrategy(params_are_sharded=True))[0] == LAYERS


def test_ranks_of_a_machine_share_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(activation_budget, "available_bytes", lambda _: 8000)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert activation_budget._available_bytes(torch.device("cpu")) == 2000
    assert activation_budget._available_bytes(torch.device("cuda")) == 8000


@pytest.mark.parametrize(
    ("capacity", "padded", "expected"),
    [(100, False, 200), (None, False, 90 + 30), (None, True, 2 * 2 * 60)],
    ids=["packed", "flat", "padded"],
)
def test_the_largest_batch(capacity: int | None, padded: bool, expected: int) -> None:
    """Pairs of 10, 90 and 30 tokens, two in a batch."""
    lengths = np.asarray([[4, 6], [30, 60], [15, 15]])
    plan: Any = SimpleNamespace(
        batches=EpochBatchSampler((10, 90, 30), micro_batch_size=2, pack_length=capacity)
    )
    assert largest_tokens(lengths, plan, padded) == expected

"""What layers keep is what torch keeps, and what is made again is the same."""

import weakref
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoModelForCausalLM, LlamaConfig, modeling_utils

from xft.data import collate_padding_free
from xft.models import ATTN_IMPLEMENTATION, TrainingModel
from xft.models.activation_checkpointing import (
    checkpoint_all_layers,
    checkpointed_layers,
    measure_activation_memory,
    set_activation_checkpointing,
)
from xft.objectives import next_token
from xft.types import Batch, Sample

LAYERS = 4


def _model(dropout: float = 0.0) -> Any:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=300, hidden_size=64, intermediate_size=128, num_hidden_layers=LAYERS, num_attention_heads=4,
        num_key_value_heads=2, head_dim=16, attn_implementation=ATTN_IMPLEMENTATION,
    )  # fmt: skip
    lora = LoraConfig(r=4, target_modules="all-linear", lora_dropout=dropout)
    return get_peft_model(AutoModelForCausalLM.from_config(config), lora)


def _batch(*lengths: int) -> Batch:
    generator = np.random.default_rng(0)
    ids = [generator.integers(3, 300, each).astype(np.int32) for each in lengths]
    return collate_padding_free([Sample(each, each.copy()) for each in ids])


class _Alive(TorchDispatchMode):
    """Bytes of the tensors that were made under ``with`` and are there still."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: dict[int, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = {each.untyped_storage().data_ptr() for each in args if isinstance(each, Tensor)}
        result = func(*args, **(kwargs or {}))
        for each in result if isinstance(result, tuple | list) else (result,):
            if isinstance(each, Tensor):
                storage = each.untyped_storage()
                if storage.data_ptr() not in given and storage.data_ptr() not in self.sizes:
                    self.sizes[storage.data_ptr()] = storage.nbytes()
                    weakref.finalize(storage, self.sizes.pop, storage.data_ptr(), None)
        return result


@pytest.mark.parametrize("count", [0, 1, LAYERS])
def test_what_is_measured_is_what_a_forward_pass_leaves_in_the_memory(count: int) -> None:
    """But for tensors that several layers share, and what goes from one to the next: each layer counts them."""
    model, batch = _model(), _batch(90, 70, 160)
    base = model.get_base_model()
    kept = measure_activation_memory(model, base, batch)
    assert kept.tokens == 320
    assert len(kept.layers) == LAYERS
    assert kept.input == 320 * 64 * 4
    set_activation_checkpointing(base, count)
    with _Alive() as alive:
        output = TrainingModel(model, next_token).train()(batch)
        held = sum(alive.sizes.values())
    assert output.loss_sum.grad_fn is not None
    expected = kept.with_checkpointing(320, count) - max(kept.layers[:count], default=0)
    assert held == pytest.approx(expected, rel=0.2, abs=4 * 320 * 64 * 4)
    assert kept.with_checkpointing(640, count) == 2 * kept.with_checkpointing(320, count)


def test_layers_that_are_made_again_give_the_same_bits() -> None:
    model, batch = _model(dropout=0.3), _batch(20, 30)
    base = model.get_base_model()
    found = []
    for count in (0, 1, 3, LAYERS):
        set_activation_checkpointing(base, count)
        marks = [each.gradient_checkpointing for each in checkpointed_layers(base)]
        assert marks == [True] * count + [False] * (LAYERS - count)
        torch.manual_seed(1)
        model.zero_grad()
        TrainingModel(model, next_token).train()(batch).loss_sum.backward()
        found.append([each.grad.clone() for each in model.parameters() if each.grad is not None])
    for other in found[1:]:
        assert all(torch.equal(one, two) for one, two in zip(found[0], other, strict=True))


def test_offloaded_inputs_of_layers_are_copied_and_give_the_same_bits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Only the input of each layer is packed, once. On a CPU, torch moves nothing: the stand-in copies."""
    packed: list[torch.Size] = []

    class Hooks(torch.autograd.graph.saved_tensors_hooks):
        def __init__(self, pin_memory: bool, device_type: str) -> None:
            assert (pin_memory, device_type) == (True, "cpu")

            def pack(tensor: Tensor) -> Tensor:
                packed.append(tensor.shape)
                return tensor.detach().clone()

            super().__init__(pack, lambda tensor: tensor)

    monkeypatch.setattr(modeling_utils, "save_on_cpu", Hooks)
    grads = []
    for offload in (False, True):
        model, batch = _model(dropout=0.3), _batch(20, 30)
        checkpoint_all_layers(model.get_base_model(), offload)
        torch.manual_seed(1)
        TrainingModel(model, next_token).train()(batch).loss_sum.backward()
        grads.append([param.grad for param in model.parameters() if param.grad is not None])
    assert all(torch.equal(one, two) for one, two in zip(*grads, strict=True))
    assert packed.count(torch.Size([1, 64, 64])) == LAYERS  # 50 tokens, padded for the kernels


def test_measuring_leaves_no_trace() -> None:
    model, batch = _model(dropout=0.3).eval(), _batch(40)
    model.get_base_model().lm_head.train()
    modes = [each.training for each in model.modules()]
    before = torch.get_rng_state()
    first = measure_activation_memory(model, model.get_base_model(), batch)
    assert first == measure_activation_memory(model, model.get_base_model(), batch)
    assert torch.equal(torch.get_rng_state(), before)
    assert [each.training for each in model.modules()] == modes
    assert all(each.grad is None for each in model.parameters())
    assert not any(each._forward_hooks or each._forward_pre_hooks for each in model.modules())

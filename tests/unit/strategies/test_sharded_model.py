"""Sharding a model in place, on a gloo group of this process only."""

import pytest
import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy
from torch.distributed.tensor import DTensor, Shard
from transformers.modeling_layers import GradientCheckpointingLayer

from xft.errors import ConfigError
from xft.models.sharded_reading import shard_meta_parameters
from xft.strategies.sharded_model import ShardedModel, check_shardable

pytestmark = pytest.mark.usefixtures("process_group")


class Layer(GradientCheckpointingLayer):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.linear(x)
        return output


class Decoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(5, 4)
        self.layers = nn.ModuleList([Layer(), Layer()])

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        states: torch.Tensor = self.embed(ids)
        for layer in self.layers:
            states = layer(states)
        return states


class Model(nn.Module):
    """A decoder and a head that shares the weight of the embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.decoder = Decoder()
        self.head = nn.Linear(4, 5, bias=False)
        self.head.weight = self.decoder.embed.weight

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(self.decoder(ids))
        return logits


def _shard(model: nn.Module, reshard_after_forward: bool = True) -> ShardedModel:
    mesh = init_device_mesh("cpu", (1,))
    return ShardedModel(model, mesh, MixedPrecisionPolicy(), False, reshard_after_forward)


@pytest.mark.parametrize("reshard_after_forward", [True, False])
def test_parts_of_the_model_compute_alone_and_are_sharded_again(reshard_after_forward: bool) -> None:
    """Validation is followed by saving, which reads the sharded parameters."""
    model, ids = Model(), torch.tensor([[1, 2]])
    expected = model(ids).detach()
    sharded = _shard(model, reshard_after_forward)
    assert sharded.num_groups == 3
    with torch.no_grad():
        for _ in range(2):
            assert torch.equal(model.head(model.decoder(ids)), expected)
            assert torch.equal(model(ids), expected)
        assert all(isinstance(param, DTensor) for param in model.parameters())
    assert model.head.weight is model.decoder.embed.weight


def test_the_last_layer_stays_gathered_for_backward() -> None:
    model, ids = Model(), torch.tensor([[1, 2]])
    _shard(model)
    loss = model(ids).sum()
    first, last = (layer.get_parameter("linear.weight") for layer in model.decoder.layers)
    assert isinstance(first, DTensor)
    assert not isinstance(last, DTensor)
    loss.backward()
    assert isinstance(model.decoder.layers[1].get_parameter("linear.weight"), DTensor)


def test_gradients_are_those_of_the_plain_model_through_hooks_of_parameters() -> None:
    torch.manual_seed(0)
    plain, model, ids = Model(), Model(), torch.tensor([[1, 2]])
    model.load_state_dict(plain.state_dict())
    for each in (plain, model):
        each.decoder.layers[1].get_parameter("linear.weight").register_hook(lambda grad: grad * 2)
    _shard(model)
    for each in (plain, model):
        each(ids).square().sum().backward()
    for expected, param in zip(plain.parameters(), model.parameters(), strict=True):
        assert isinstance(param.grad, DTensor)
        torch.testing.assert_close(param.grad.to_local(), expected.grad)


@pytest.mark.parametrize("cpu_offload", [True, False])
def test_rows_that_were_read_are_taken_as_they_are(cpu_offload: bool) -> None:
    plain, ids, mesh = Model(), torch.tensor([[1, 2]]), init_device_mesh("cpu", (1,))
    with torch.device("meta"):
        model = Model()
    model.head.weight = model.decoder.embed.weight
    shard_meta_parameters(model, mesh)
    for (name, param), read in zip(model.named_parameters(), plain.parameters(), strict=True):
        module, _, key = name.rpartition(".")
        rows = nn.Parameter(DTensor.from_local(read.data.clone(), param.device_mesh, [Shard(0)]))
        setattr(model.get_submodule(module), key, rows)
    model.head.weight = model.decoder.embed.weight
    ShardedModel(model, mesh, MixedPrecisionPolicy(), cpu_offload, reshard_after_forward=True)
    assert model.head.weight is model.decoder.embed.weight
    for each in (plain, model):
        each(ids).square().sum().backward()
    for expected, param in zip(plain.parameters(), model.parameters(), strict=True):
        assert isinstance(param.grad, DTensor)
        torch.testing.assert_close(param.grad.to_local(), expected.grad)


def test_quantization_states_are_on_the_gathered_parameters() -> None:
    model = Model()
    weight = model.decoder.layers[0].get_parameter("linear.weight")
    weight.requires_grad_(False)
    weight.quant_state = "state"  # type: ignore[attr-defined]
    sharded = _shard(model)
    seen = []
    layer = model.decoder.layers[0].get_submodule("linear")
    layer.register_forward_pre_hook(
        lambda module, _: seen.append((type(module.weight), module.weight.quant_state))
    )
    model(torch.tensor([[1]]))
    assert seen == [(nn.Parameter, "state")]
    assert layer.get_parameter("weight").quant_state == "state"  # type: ignore[attr-defined]
    assert torch.equal(sharded.full_tensor(layer.get_parameter("weight")), weight)


def test_models_that_cannot_be_sharded_are_refused() -> None:
    model = Model()
    check_shardable(model, sees_images=False)
    with pytest.raises(ConfigError) as images:
        check_shardable(model, sees_images=True)
    model.decoder.layers[0].half()
    with pytest.raises(ConfigError) as dtypes:
        check_shardable(model, sees_images=False)
    model.decoder.layers[0].requires_grad_(False)
    check_shardable(model, sees_images=False)
    model.scale = nn.Parameter(torch.tensor(1.0))
    with pytest.raises(ConfigError) as scalar:
        check_shardable(model, sees_images=False)
    model.scale = nn.Parameter(torch.zeros(3, dtype=torch.int8), requires_grad=False)
    with pytest.raises(ConfigError) as int8:
        check_shardable(model, sees_images=False)
    assert [error.value.key for error in (images, dtypes, scalar, int8)] == [
        *["strategy.type"] * 3,
        "quantization.type",
    ]
    assert "float16, float32" in str(dtypes.value.got)

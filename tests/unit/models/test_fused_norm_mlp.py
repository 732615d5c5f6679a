"""Fused RMSNorm and MLP modules."""

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.models import load_trained
from helpers.tiny import save_tiny
from torch import Tensor, nn
from transformers.models.bamba.modeling_bamba import BambaRMSNormGated
from transformers.models.gemma2.modeling_gemma2 import Gemma2RMSNorm
from transformers.models.llama.modeling_llama import LlamaRMSNorm
from transformers.models.qwen3_next.modeling_qwen3_next import Qwen3NextRMSNorm, Qwen3NextRMSNormGated

from xft.kernels import rms_norm_eager
from xft.models.fused_norm_mlp import fuse_modules


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory, byte_tokenizer: Any) -> Path:
    return save_tiny(tmp_path_factory.mktemp("model"), "llama", byte_tokenizer)


def test_norms_and_gates_step_back_where_a_model_has_others(saved: Path) -> None:
    """A norm that adds one to its weight, and a gate with another activation, are what they were; the class is
    asked, and its name says nothing."""

    class OtherRMSNorm(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight, self.eps = nn.Parameter(torch.rand(8)), 1e-6

        def forward(self, x: Tensor) -> Tensor:
            return rms_norm_eager(x, 1 + self.weight, self.eps)

    class Inner(nn.Module):
        def __init__(self, act: nn.Module) -> None:
            super().__init__()
            self.gate_proj, self.up_proj, self.down_proj = (nn.Linear(8, 8) for _ in range(3))
            self.act_fn = act

        def forward(self, x: Tensor) -> Tensor:
            return self.down_proj(self.act_fn(self.gate_proj(x)) * self.up_proj(x))

    class GELUInner(Inner):
        pass

    model = nn.ModuleList([OtherRMSNorm(), Inner(nn.SiLU()), GELUInner(nn.GELU())])
    fuse_modules(model)
    assert [type(each).__name__ for each in model] == ["OtherRMSNorm", "FusedInner", "GELUInner"]
    loaded = {type(each).__name__ for each in load_trained(saved).modules()}
    assert {"FusedLlamaRMSNorm", "FusedLlamaMLP"} <= loaded
    assert not {"LlamaRMSNorm", "LlamaMLP"} & loaded
    plain = {type(each).__name__ for each in load_trained(saved, fused_kernels=False).modules()}
    assert {"LlamaRMSNorm", "LlamaMLP"} <= plain


@pytest.mark.parametrize(
    "norm",
    [
        Gemma2RMSNorm(8), Qwen3NextRMSNorm(8), Qwen3NextRMSNormGated(8), BambaRMSNormGated(8, group_size=8), nn.LayerNorm(8),
        nn.LayerNorm(8, bias=False),
    ],
    ids=lambda norm: type(norm).__name__,
)  # fmt: skip
def test_norm_of_another_formula_or_with_a_gate_is_left_alone(norm: nn.Module) -> None:
    nn.init.normal_(norm.weight, mean=1.0)  # type: ignore[arg-type]
    original = type(norm)
    fuse_modules(nn.ModuleList([norm]))
    assert type(norm) is original


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_epsilon_of_a_norm_is_measured(dtype: torch.dtype) -> None:
    """By numbers, whatever the name of the attribute, and beside a float that is another option."""

    class Scale(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight, self.small, self.other = nn.Parameter(torch.rand(8)), 1e-6, 1e-5

        def forward(self, x: Tensor) -> Tensor:
            return rms_norm_eager(x, self.weight, self.small)

    modules = nn.ModuleList([Scale(), LlamaRMSNorm(8, eps=1e-3), LlamaRMSNorm(8, eps=1e-5)]).to(dtype)
    fuse_modules(modules)
    x = (torch.randn(2, 8) * 1e-3).to(dtype)
    assert [type(module).__name__ for module in modules] == ["FusedScale", *["FusedLlamaRMSNorm"] * 2]
    for module in modules:
        assert torch.equal(module.train()(x), type(module).__mro__[1].forward(module, x))


def test_layers_of_one_class_are_measured_by_their_options() -> None:
    """As in Gemma 3n, where the first layers alone are sparse; dropout is seen too, since it is of training."""

    class Inner(nn.Module):
        def __init__(self, sparsity: float, dropout: float = 0.0) -> None:
            super().__init__()
            self.gate_proj, self.up_proj, self.down_proj = (nn.Linear(8, 8) for _ in range(3))
            self.act_fn, self.sparsity, self.dropout = nn.SiLU(), sparsity, dropout

        def forward(self, x: Tensor) -> Tensor:
            gate = nn.functional.dropout(self.gate_proj(x), self.dropout, self.training)
            if self.sparsity:
                gate = gate.relu()
            return self.down_proj(self.act_fn(gate) * self.up_proj(x))

    modules = nn.ModuleList([Inner(0.0), Inner(0.5), Inner(0.0, 0.5)]).eval()
    state = torch.get_rng_state()
    fuse_modules(modules)
    assert [type(module).__name__ for module in modules] == ["FusedInner", "Inner", "Inner"]
    assert not modules.training
    assert torch.equal(torch.get_rng_state(), state)

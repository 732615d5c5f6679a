"""Fused RMSNorm and MLP modules."""

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.models import load_model
from helpers.tiny import save_tiny
from torch import Tensor, nn

from xft.kernels import rms_norm_eager
from xft.models import LoRA
from xft.models.fused_norm_mlp import fuse_modules


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory, byte_tokenizer: Any) -> Path:
    return save_tiny(tmp_path_factory.mktemp("model"), "llama", byte_tokenizer)


def _load(saved: Path, **options: Any) -> Any:
    torch.manual_seed(0)
    model = load_model(saved, **{"adapter": LoRA(r=4, lora_alpha=4), **options})
    torch.manual_seed(1)
    for name, each in model.named_parameters():
        if "lora_B" in name:  # zero at first, which would hide the gradient of A
            torch.nn.init.normal_(each, std=0.1)
    return model


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
    loaded = {type(each).__name__ for each in _load(saved).modules()}
    assert {"FusedLlamaRMSNorm", "FusedLlamaMLP"} <= loaded
    assert not {"LlamaRMSNorm", "LlamaMLP"} & loaded
    plain = {type(each).__name__ for each in _load(saved, fused_kernels=False).modules()}
    assert {"LlamaRMSNorm", "LlamaMLP"} <= plain

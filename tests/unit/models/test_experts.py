"""Experts and routers are found by their structure in every family."""

from typing import Any

import pytest
from helpers.mixtures import FAMILIES, NUM_EXPERTS, mixture
from helpers.tiny import tiny_config
from torch import nn
from transformers import AutoModelForCausalLM

from xft.models import LoRA
from xft.models.experts import describe_experts, find_experts


@pytest.mark.parametrize("family", FAMILIES)
def test_experts_and_routers_of_a_family_are_found(family: str) -> None:
    model = mixture(family)
    experts = find_experts(model)
    assert experts is not None
    layers = 1 if family == "deepseek_v3" else model.config.num_hidden_layers
    assert experts.num_experts == NUM_EXPERTS
    assert len(experts.blocks) == layers
    assert {name.rpartition(".")[2] for name in experts.parameters} == {"gate_up_proj", "down_proj"}
    assert len(experts.parameters) == 2 * layers
    gates = 2 if hasattr(model.config, "shared_expert_intermediate_size") else 1
    assert len(experts.routers) == gates * layers


def test_dense_model_has_no_experts() -> None:
    assert find_experts(AutoModelForCausalLM.from_config(tiny_config("llama", 97))) is None


class _Unfused(nn.Module):
    """A layer in the style of remote code: one module per expert, and a gate of the hidden size beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.experts = nn.ModuleList([nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8)) for _ in range(3)])
        self.gate = nn.Linear(8, 3)
        self.input_gate = nn.Linear(8, 8)


def test_unfused_experts_are_found() -> None:
    experts: Any = find_experts(nn.ModuleDict({"mlp": _Unfused()}))
    assert (experts.num_experts, experts.routers) == (3, ["mlp.gate"])
    assert experts.linears[0] == "mlp.experts.0.0"
    assert len(experts.linears) == 6


@pytest.mark.parametrize(
    ("targets", "expected"),
    [
        ("all-linear", "frozen (adapter.target_modules='all' adapts them), router frozen"),
        ("all", "LoRA without dropout, router frozen"),
        (["q_proj", "gate"], "frozen (adapter.target_modules='all' adapts them), router LoRA"),
    ],
)
def test_description_says_what_is_trained(targets: str | list[str], expected: str) -> None:
    model = LoRA(r=2, target_modules=targets).apply(mixture("qwen3_moe"), [])
    assert describe_experts(model.get_base_model()) == f"4 in each of 2 layers: {expected}"


def test_description_of_full_training_and_of_a_fully_trained_router() -> None:
    assert describe_experts(mixture("mixtral")) == "4 in each of 2 layers: trained, router trained"
    model = LoRA(r=2, modules_to_save=["gate"]).apply(mixture("mixtral"), [])
    assert describe_experts(model.get_base_model()).endswith("router trained")

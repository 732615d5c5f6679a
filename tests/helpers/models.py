"""Load saved models as a config declares them."""

from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, PreTrainedModel

from benchmarks.family_merge import family_config
from xft.models import CausalLMConfig, LoRA, Quantization, RewardModelConfig
from xft.models.checks.attention_checks import causal_class, choose_attention
from xft.models.checks.tiny_config import tiny_config
from xft.models.checks.tiny_model import build_tiny_model
from xft.models.model_options import decoder_config

PROBE_IDS = torch.arange(5, 25)[None]
"""Tokens on which logits are compared."""


def load_model(
    path: Path,
    adapter: LoRA | None = None,
    quantization: Quantization | None = None,
    *,
    reward: bool = False,
    **options: Any,
) -> Any:
    """Load a model on the CPU, in fp32 unless ``dtype`` is given; ``options`` are keys of the model section."""
    make = RewardModelConfig if reward else CausalLMConfig
    spec = make(str(path), **{"dtype": "float32", **options})
    return spec.load(spec.load_tokenizer(), torch.device("cpu"), adapter, quantization).model


def load_trained(base: Path, **options: Any) -> Any:
    """Load a model as :func:`load_model` does, with an adapter (r 4) whose update is not zero unless ``adapter`` is given."""
    torch.manual_seed(0)
    model = load_model(base, **{"adapter": LoRA(r=4, lora_alpha=4), **options})
    torch.manual_seed(1)
    for name, param in model.named_parameters():
        if "lora_B" in name:  # zero at first, which would hide the gradient of A
            torch.nn.init.normal_(param, std=0.1)
    return model.train()


def trained_adapter(base: Path, **options: Any) -> PeftModel:
    """A model with an adapter whose update is not zero; ``options`` are keys of the adapter section."""
    model: PeftModel = load_trained(base, adapter=LoRA(**{"r": 4, "lora_alpha": 8, **options}))
    return model.eval()


def plain_model(base: Path) -> Any:
    """The model of a folder as transformers loads it."""
    return AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()


def logits_of(model: Any) -> torch.Tensor:
    """The logits of ``PROBE_IDS``."""
    with torch.no_grad():
        logits: torch.Tensor = model(input_ids=PROBE_IDS).logits
    return logits


def tiny_family(family: str) -> PreTrainedModel:
    """A tiny model with random weights in fp32, of the default config of a family, with the attention that xft chooses."""
    config = family_config(family)
    model_class = causal_class(config)
    assert model_class is not None
    return build_tiny_model(
        model_class, tiny_config(decoder_config(config)), choose_attention(config)
    ).float()

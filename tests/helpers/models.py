"""Load saved models as a config declares them."""

from pathlib import Path
from typing import Any

import torch

from xft.models import CausalLMConfig, LoRA, Quantization, RewardModelConfig


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

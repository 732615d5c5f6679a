"""Train a LoRA on a tiny model of a family, merge it, and compare it with the merged model in plain transformers."""

import tempfile
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer as Backend
from tokenizers.models import WordLevel
from torch import Tensor, nn
from transformers import CONFIG_MAPPING, PretrainedConfig, PreTrainedTokenizerFast

from xft.compat.peft import PeftModel
from xft.data.batching.collate import Collator
from xft.models import CausalLMConfig, LoadedModel, LoRA, ModelMetadata, TrainingModel, save_model
from xft.models.adapters.merging import merge
from xft.models.checks.attention_checks import causal_class
from xft.models.checks.measure import EAGER
from xft.models.checks.tiny_config import VOCAB_SIZE, tiny_config
from xft.models.checks.tiny_model import build_tiny_model, double_precision
from xft.models.forward_inputs import forward_inputs
from xft.models.model_options import decoder_config
from xft.objectives.next_token import NextToken
from xft.types import Batch, Sample

LENGTHS = (9, 11)
"""Tokens of the samples, as in :mod:`xft.models.checks.measure`."""
NUM_STEPS = 3
LR = 1e-2
TOLERANCE = 1e-4
"""Largest error that is rounding of fp32. Measured over all families except HRM, whose layers repeat: below 3e-5."""
TOLERANCE_FP64 = 1e-8


VARIANTS: dict[str, dict[str, Any]] = {
    "lfm2": {"layer_types": ["conv", "conv", "full_attention", "conv"], "num_hidden_layers": 4},
    "mistral": {"sliding_window": 4096},
    "qwen2": {"use_sliding_window": True, "max_window_layers": 16},
    "deepseek_v2": {"num_experts_per_tok": 2, "topk_method": "greedy"},
    "dots1": {"n_routed_experts": 8, "num_experts_per_tok": 2, "n_shared_experts": 1},
    "bamba": {"attn_layer_indices": [9, 18, 27]},
    "hunyuan_v1_dense": {"head_dim": 128},
    "hunyuan_v1_moe": {"head_dim": 128},
    "ministral": {"head_dim": 128},
    "nemotron": {"num_key_value_heads": 8},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"] * 16},
}
"""Options that real models of a family set, and that the default config leaves out."""


def family_config(name: str) -> PretrainedConfig:
    """Return the default config of a family, with the options of ``VARIANTS``."""
    config: PretrainedConfig = CONFIG_MAPPING[name](**VARIANTS.get(name, {}))
    return config


@dataclass(frozen=True)
class Merged:
    """Comparison of a trained adapter with the merged model.

    Attributes:
        error: largest difference of logits of the merged model in plain transformers, each sample alone, from those
            of the adapter in a batch as in training; relative to the largest logit.
        effect: the same difference between the adapter and its base.
        losses: of each step.
    """

    error: float
    effect: float
    losses: list[float]


def compare_merged(
    config: PretrainedConfig, target_modules: str = "all-linear", dtype: torch.dtype = torch.float32
) -> Merged:
    """Train ``target_modules`` of a tiny model in fp32, merge, and compare.

    Args:
        config: of a model of the family, whose sizes are made small.
        target_modules: as in :class:`~xft.models.LoRA`.
        dtype: in which the models are merged and compared. In fp64, no rounding hides behind that of fp32.

    Raises:
        XftError: the family cannot be trained, or not in this way.
    """
    with tempfile.TemporaryDirectory() as name:
        base, out = Path(name, "base"), Path(name, "merged")
        _save_tiny(config, base)
        spec = CausalLMConfig(str(base), dtype="float32")
        adapter = LoRA(r=4, lora_alpha=8, target_modules=target_modules)
        torch.manual_seed(0)
        loaded = spec.load(spec.load_tokenizer(), torch.device("cpu"), adapter)
        loaded.check_batches()
        batch = _batch(loaded)
        losses = _train(loaded, batch)
        nn.Module.to(loaded.model, dtype)
        adapted = _logits(loaded, batch)
        assert isinstance(loaded.model, PeftModel)
        with loaded.model.disable_adapter():
            plain = _logits(loaded, batch)
        out.mkdir()
        save_model(merge(loaded.model), loaded.tokenizer, None, ModelMetadata(str(base), "float32"), out)
        merged = _plain_logits(config, out, batch)
    return Merged(_distance(merged, adapted), _distance(plain, adapted), losses)


def _plain_logits(config: PretrainedConfig, folder: Path, batch: Batch) -> Tensor:
    """Return the logits of each sample alone, by plain transformers in the dtype of the files."""
    plain_class: Any = causal_class(config)
    model = plain_class.from_pretrained(folder, dtype="auto", attn_implementation=EAGER).eval()
    with _precision(model.dtype), torch.inference_mode():
        return torch.cat(
            [model(ids[None], use_cache=False).logits[0] for ids in batch.split(batch.input_ids)]
        )


def _precision(dtype: torch.dtype) -> AbstractContextManager[None]:
    """Return a context that computes in fp64 for it, also where a model asks for fp32."""
    return double_precision() if dtype == torch.float64 else nullcontext()


def _save_tiny(config: PretrainedConfig, folder: Path) -> None:
    """Write a tiny model and a tokenizer with one word per id."""
    model_class = causal_class(config)
    assert model_class is not None
    build_tiny_model(model_class, tiny_config(decoder_config(config)), EAGER).float().save_pretrained(
        folder
    )
    words = {f"w{index}": index for index in range(VOCAB_SIZE // 2)}
    backend = Backend(WordLevel(words, unk_token="w0"))
    PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="w1", pad_token="w2").save_pretrained(
        folder
    )


def _batch(loaded: LoadedModel) -> Batch:
    generator = torch.Generator().manual_seed(1)
    rows = [torch.randint(4, VOCAB_SIZE // 2, (length,), generator=generator).numpy() for length in LENGTHS]
    samples = [Sample(ids, ids) for ids in rows]
    return Collator.for_model(loaded.tokenizer, loaded.supports_packing).collate(samples, range(len(rows)))


def _train(loaded: LoadedModel, batch: Batch) -> list[float]:
    model = TrainingModel(loaded.model, NextToken()).train()
    optimizer = torch.optim.AdamW([param for param in model.parameters() if param.requires_grad], lr=LR)
    losses = []
    for _ in range(NUM_STEPS):
        output = model(batch)
        loss = output.loss_sum / output.num_targets
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    model.eval()
    return losses


def _logits(loaded: LoadedModel, batch: Batch) -> Tensor:
    """Return the ``(tokens, vocabulary)`` logits of a batch, without padding."""
    with _precision(loaded.base.dtype), torch.inference_mode():
        logits: Tensor = loaded.model(**forward_inputs(loaded.model, batch)).logits
    return logits[0] if batch.attention_mask is None else logits[batch.attention_mask.bool()]


def _distance(result: Tensor, expected: Tensor) -> float:
    return float((result - expected).abs().max() / expected.abs().max())

"""Tiny checkpoints of InternLM2 and Baichuan, in the names and the order of rows of their families."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

HIDDEN, INNER, LAYERS, HEADS, KV_HEADS = 64, 96, 2, 8, 2
HEAD_DIM = HIDDEN // HEADS


def internlm2_config(vocabulary: int, **options: Any) -> dict[str, Any]:
    """The ``config.json`` of an InternLM 2.5 model, with tiny sizes."""
    return {
        "architectures": ["InternLM2ForCausalLM"],
        "attn_implementation": "eager",
        "auto_map": {
            "AutoConfig": "configuration_internlm2.InternLM2Config",
            "AutoModelForCausalLM": "modeling_internlm2.InternLM2ForCausalLM",
        },
        "bias": False,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "hidden_act": "silu",
        "hidden_size": HIDDEN,
        "intermediate_size": INNER,
        "max_position_embeddings": 4096,
        "model_type": "internlm2",
        "num_attention_heads": HEADS,
        "num_hidden_layers": LAYERS,
        "num_key_value_heads": KV_HEADS,
        "pad_token_id": 2,
        "rms_norm_eps": 1e-05,
        "rope_scaling": {"type": "dynamic", "factor": 2.0},
        "rope_theta": 1000000,
        "tie_word_embeddings": False,
        "torch_dtype": "float32",
        "vocab_size": vocabulary,
    } | options


def internlm2_weights(vocabulary: int, bias: bool = False) -> dict[str, Tensor]:
    """Random weights of InternLM2."""
    generator = torch.Generator().manual_seed(0)
    rows = (HEADS + 2 * KV_HEADS) * HEAD_DIM
    shapes = {
        "attention.wqkv.weight": (rows, HIDDEN),
        "attention.wo.weight": (HIDDEN, HIDDEN),
        "feed_forward.w1.weight": (INNER, HIDDEN),
        "feed_forward.w3.weight": (INNER, HIDDEN),
        "feed_forward.w2.weight": (HIDDEN, INNER),
        "attention_norm.weight": (HIDDEN,),
        "ffn_norm.weight": (HIDDEN,),
    }
    if bias:
        shapes |= {"attention.wqkv.bias": (rows,), "attention.wo.bias": (HIDDEN,)}
    names = {
        "model.tok_embeddings.weight": (vocabulary, HIDDEN),
        "model.norm.weight": (HIDDEN,),
        "output.weight": (vocabulary, HIDDEN),
    }
    names |= {
        f"model.layers.{layer}.{name}": shape for layer in range(LAYERS) for name, shape in shapes.items()
    }
    return {name: torch.randn(shape, generator=generator) * 0.3 for name, shape in names.items()}


def baichuan_config(vocabulary: int, **options: Any) -> dict[str, Any]:
    """The ``config.json`` of Baichuan 2 7B, with tiny sizes except for the vocabulary."""
    return {
        "architectures": ["BaichuanForCausalLM"],
        "bos_token_id": 1,
        "eos_token_id": 2,
        "hidden_act": "silu",
        "hidden_size": HIDDEN,
        "intermediate_size": INNER,
        "max_position_embeddings": 4096,
        "model_max_length": 4096,
        "model_type": "baichuan",
        "num_attention_heads": HEADS,
        "num_hidden_layers": LAYERS,
        "pad_token_id": 0,
        "rms_norm_eps": 1e-06,
        "tie_word_embeddings": False,
        "torch_dtype": "float32",
        "vocab_size": vocabulary,
    } | options


def baichuan_weights(vocabulary: int) -> dict[str, Tensor]:
    """Random weights of Baichuan, with the superfluous buffers of its files."""
    generator = torch.Generator().manual_seed(0)
    shapes = {
        "self_attn.W_pack.weight": (3 * HIDDEN, HIDDEN),
        "self_attn.o_proj.weight": (HIDDEN, HIDDEN),
        "mlp.gate_proj.weight": (INNER, HIDDEN),
        "mlp.up_proj.weight": (INNER, HIDDEN),
        "mlp.down_proj.weight": (HIDDEN, INNER),
        "input_layernorm.weight": (HIDDEN,),
        "post_attention_layernorm.weight": (HIDDEN,),
    }
    names = {
        "model.embed_tokens.weight": (vocabulary, HIDDEN),
        "model.norm.weight": (HIDDEN,),
        "lm_head.weight": (vocabulary, HIDDEN),
    }
    names |= {
        f"model.layers.{layer}.{name}": shape for layer in range(LAYERS) for name, shape in shapes.items()
    }
    return {name: torch.randn(shape, generator=generator) * 0.3 for name, shape in names.items()}


def write_checkpoint(
    folder: Path, config: dict[str, Any], weights: dict[str, Tensor], tokenizer: Any = None
) -> Path:
    """Write a model folder with two files of code that must not be executed."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    for name in ("configuration_internlm2.py", "modeling_internlm2.py"):
        (folder / name).write_text("raise RuntimeError('executed')\n", encoding="utf-8")
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)
    return folder

"""Write a model with random weights that has the kinds of layers of a family, and the tokenizer of the bundled model.

    python benchmarks/random_model.py gpt_oss FOLDER
    python benchmarks/benchmark.py --rows alpaca.json --model FOLDER --contestants xft trl-unpacked

gpt-oss has attention sinks, sliding windows and experts; Gemma 3 windows and norms of queries and keys; Qwen3.5 gated
delta rules beside attention.
"""

import argparse
from pathlib import Path
from typing import Any

import torch
from transformers import CONFIG_MAPPING

from xft.models.checks.attention_checks import causal_class
from xft.models.loading import load_tokenizer

HIDDEN, LAYERS, HEADS = 512, 8, 8
SHARED = {
    "hidden_size": HIDDEN,
    "intermediate_size": 2 * HIDDEN,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "num_key_value_heads": 2,
    "head_dim": HIDDEN // HEADS,
    "max_position_embeddings": 4096,
    "tie_word_embeddings": True,
}
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {},
    "gpt_oss": {"num_local_experts": 4, "num_experts_per_tok": 2, "intermediate_size": HIDDEN},
    "gemma3_text": {"sliding_window": 256},
    "qwen3_5_text": {
        "linear_num_key_heads": 4,
        "linear_num_value_heads": 8,
        "linear_key_head_dim": 64,
        "linear_value_head_dim": 64,
    },
}
"""Options of the config class, beside ``SHARED``."""


def main() -> None:
    """Write the folder."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("family", choices=FAMILIES)
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    tokenizer: Any = load_tokenizer("xft://smollm2-135m-instruct")
    ids = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}
    options = {**SHARED, **FAMILIES[arguments.family], **ids, "vocab_size": len(tokenizer)}
    torch.manual_seed(0)
    config = CONFIG_MAPPING[arguments.family](**options)
    model_class = causal_class(config)
    assert model_class is not None
    model_class(config).save_pretrained(arguments.folder)
    tokenizer.save_pretrained(arguments.folder)


if __name__ == "__main__":
    main()

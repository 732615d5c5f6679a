"""What vLLM requires of an adapter (``PEFTHelper`` and the LoRA weights loader of vLLM)."""

import json
from pathlib import Path
from typing import Any

from xft.models.mapped_families import mapped_model_type

RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""Values of ``--max-lora-rank``."""
DEFAULT_RANK = 16
_EMBEDDINGS = ("embed_tokens", "lm_head", "wte", "embed_in", "embed_out", "output")
"""Last parts of the names of embeddings and heads, which have no LoRA layers in vLLM."""


def vllm_note(folder: Path) -> str | None:
    """Return how vLLM can serve an adapter if it needs an option or cannot; ``None`` if it can as it is.

    Args:
        folder: with ``adapter_config.json``.
    """
    config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    if reason := _obstacle(config):
        return f"vLLM cannot load this adapter ({reason}): merge it for vLLM, with --merge"
    if config["r"] > DEFAULT_RANK:
        return f"vLLM needs --max-lora-rank {min(rank for rank in RANKS if rank >= config['r'])} for this adapter"
    return None


def _obstacle(config: dict[str, Any]) -> str | None:
    targets = config.get("target_modules") or []
    names = [targets] if isinstance(targets, str) else targets
    embeddings = sorted(name for name in names if name.rpartition(".")[2] in _EMBEDDINGS)
    base = mapped_model_type(str(config.get("base_model_name_or_path")), local_files_only=True)
    obstacles = {
        f"the base, {base}, has other layers in vLLM": base,
        "DoRA": config.get("use_dora"),
        "trained biases": config.get("bias", "none") != "none" or config.get("lora_bias"),
        "a rank per layer": config.get("rank_pattern") or config.get("alpha_pattern"),
        "embeddings of new tokens": config.get("trainable_token_indices"),
        f"fully trained {', '.join(config.get('modules_to_save') or [])}": config.get("modules_to_save"),
        f"LoRA on {', '.join(embeddings)}": embeddings,
        "LoRA on fused experts or other parameters": config.get("target_parameters"),
        f"rank {config['r']}": config["r"] > max(RANKS),
    }
    return next((name for name, applies in obstacles.items() if applies), None)

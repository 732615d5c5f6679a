"""Translate names of components in other tools, and earlier names in xft, to those of xft."""

FOREIGN_NAMES: dict[str, dict[str, str]] = {
    "strategy": {"single": "single_device", "zero": "deepspeed"},
    "data": {
        "judged": "unpaired_preference",
        "kto": "unpaired_preference",
        "pretrain": "text",
        "pt": "text",
    },
    "hooks": {"guards": "training_health", "questions": "sample_generation"},
    "objective": {"rm": "reward", "pt": "pretrain"},
    "quantization": {"4bit": "nf4", "8bit": "int8", "bnb": "nf4"},
    "optimizer": {
        "adamw_torch": "adamw",
        "adamw_torch_fused": "adamw",
        "adamw_hf": "adamw",
        "adamw_bnb_8bit": "adamw_8bit",
        "paged_adamw_32bit": "paged_adamw_8bit",
    },
    "lr_scheduler": {"constant_with_warmup": "constant", "cosine_with_min_lr": "cosine"},
}
"""Key of a registry to names of components elsewhere, and the name in xft."""


def advice(key: str, name: str) -> str:
    """Return ``in xft this is NAME`` for the foreign name of a component, and an empty text for any other."""
    target = FOREIGN_NAMES.get(key, {}).get(name)
    return f"in xft this is {target!r}" if target is not None else ""

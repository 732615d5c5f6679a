"""Tiny models with random weights, saved as ordinary folders, and rows to train them on."""

import json
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, LlamaConfig, Qwen3Config

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared"


def tiny_config(family: str, vocabulary: int) -> Any:
    """The config of a model of a family with two narrow layers."""
    options: dict[str, Any] = {
        "vocab_size": vocabulary,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "max_position_embeddings": 4096,
        "tie_word_embeddings": True,
    }
    if family == "internlm3":
        from transformers import AutoConfig

        return AutoConfig.for_model("internlm3", **options)
    return {"llama": LlamaConfig, "qwen3": Qwen3Config}[family](**options)


def save_tiny(folder: Path, family: str, tokenizer: Any, dtype: torch.dtype = torch.float32) -> Path:
    """Save a tiny model and a tokenizer as one folder."""
    torch.manual_seed(0)
    config = tiny_config(family, len(tokenizer))
    config.eos_token_id = tokenizer.eos_token_id
    config.bos_token_id = tokenizer.bos_token_id
    model = AutoModelForCausalLM.from_config(config).to(dtype)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def small_vocabulary(tokenizer: Any) -> Any:
    """The same kind of tokenizer with 350 tokens, which it learns from rows and its own template.

    With the 49,152 of SmolLM2, more than half of the time of a tiny run is its head, and the reading and writing of
    a vocabulary. Rows are about as long with both.
    """
    texts = [f"{row['instruction']} {row['output']}" for row in _rows(60)]
    if tokenizer.chat_template is not None:
        turns = [[{"role": "user", "content": text}] for text in texts]
        texts = [tokenizer.apply_chat_template(conversation, tokenize=False) for conversation in turns]
    return tokenizer.train_new_from_iterator(texts, vocab_size=350, show_progress=False)


def _rows(count: int, start: int = 0) -> list[dict[str, str]]:
    return [
        {
            "instruction": f"Say number {i} {'please ' * (i % 5)}",
            "output": f"Number {i} is {'good ' * (i % 7 + 1)}",
        }
        for i in range(start, start + count)
    ]


def write_rows(path: Path, count: int, start: int = 0) -> Path:
    """Write Alpaca rows of different lengths."""
    rows = _rows(count, start)
    path.write_text("".join(json.dumps(each) + "\n" for each in rows), encoding="utf-8")
    return path


def records(run: Path, split: str | None = None) -> list[dict[str, Any]]:
    """The records of ``metrics.jsonl``, of one split or all."""
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    found = [json.loads(line) for line in lines]
    return [each for each in found if split in (None, each["split"])]


TIMES = (
    *("eta_seconds", "tokens_per_second", "target_tokens_per_second", "peak_memory_bytes"),
    *("rollout_seconds", "train_seconds"),
)


def comparable_records(run: Path) -> list[dict[str, Any]]:
    """Return the records of ``metrics.jsonl`` without wall-clock times and memory."""
    return [{key: value for key, value in record.items() if key not in TIMES} for record in records(run)]


CONFIG = """\
model = dict(type="causal_lm", path={model!r}, dtype="float32")
adapter = dict(type="lora", r=4, lora_alpha=8)
data = dict(type="instruction", path={data!r}, format="alpaca", max_length=128, val_split=0.1)
training = dict(epochs=2, micro_batch_size=1, gradient_accumulation_steps=2, min_steps_per_epoch=0)
optimizer = dict(type="adamw", lr=1e-2)
hooks = dict(
    progress=dict(type="progress"),
    validation=dict(type="validation"),
    sample_generation=dict(type="sample_generation", max_new_tokens=4),
    checkpoint=dict(type="checkpoint"),
)
loggers = dict(jsonl=dict(type="jsonl"))
eval_prompts = [dict(question="Say number 3", reference="Number 3"), "Who are you?"]
"""


def write_config(path: Path, model: Path | str, data: Path | str, extra: str = "") -> Path:
    """Write a small config for a tiny model; ``extra`` follows at the end."""
    path.write_text(CONFIG.format(model=str(model), data=str(data)) + extra, encoding="utf-8")
    return path

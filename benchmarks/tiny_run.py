"""Write a tiny model with random weights, a byte tokenizer, rows and a config; a run takes seconds."""

import json
from pathlib import Path
from typing import Any

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LORA = 'dict(type="lora", r=4, lora_alpha=8, lora_dropout=0.2)'
CONFIG = """\
model = dict(type="causal_lm", path={model!r}, dtype="float32")
adapter = {adapter}
data = dict(type={data!r}, path={rows!r}, format="alpaca", max_length=128, val_split=4, num_workers=1)
training = dict(max_steps=12, micro_batch_size=1, gradient_accumulation_steps=2, min_steps_per_epoch=0)
optimizer = dict(type="adamw", lr=1e-3)
hooks = dict(
    progress=dict(type="progress"),
    validation=dict(type="validation", interval=3),
    sample_generation=dict(type="sample_generation", interval=6, max_new_tokens=4),
    checkpoint=dict(type="checkpoint", interval=4),
)
loggers = dict(jsonl=dict(type="jsonl"))
eval_prompts = ["Who are you?"]
"""
ONLINE = """\
objective = dict(type="grpo")
rewards = dict(letter=dict(type="regex", pattern="[a-e]"))
rollout = dict(num_generations=4, num_iterations=3, max_new_tokens=16)
"""
SMALL = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}


def write_inputs(
    folder: Path, config: Path, adapter: bool, sizes: dict[str, Any] | None = None, online: bool = False
) -> int:
    """Write ``model/``, ``rows.jsonl`` and a config that uses them.

    Args:
        folder: output folder.
        config: path of the config file.
        adapter: train an adapter with dropout; otherwise all weights.
        sizes: arguments of ``LlamaConfig``.
        online: train with GRPO on sampled completions; without dropout.

    Returns:
        0, the exit code of a process that succeeds.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    alphabet = {each: index for index, each in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    backend = Tokenizer(models.BPE(vocab=alphabet, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    special: dict[str, Any] = {
        "eos_token": "<|im_end|>",
        "pad_token": "<|pad|>",
        "additional_special_tokens": ["<|im_start|>"],
    }
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, **special)
    tokenizer.chat_template = CHATML
    options: dict[str, Any] = {**(sizes or SMALL), "vocab_size": len(tokenizer)}
    model = LlamaForCausalLM(LlamaConfig(**options, eos_token_id=tokenizer.eos_token_id))
    model.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    rows = [{"instruction": f"Say {i} {'please ' * (i % 3)}", "output": f"Number {i}"} for i in range(20)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(each) + "\n" for each in rows))
    paths = {"model": str(folder / "model"), "rows": str(folder / "rows.jsonl")}
    lora = LORA.replace("0.2", "0.0") if online else LORA
    values = {
        **paths,
        "adapter": lora if adapter else "None",
        "data": "prompt" if online else "instruction",
    }
    config.write_text(CONFIG.format(**values) + (ONLINE if online else ""))
    return 0

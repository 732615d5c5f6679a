"""Pairs and labelled answers for tiny models, and the models."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from helpers.tiny import tiny_config, write_config
from xft.models import ATTN_IMPLEMENTATION
from xft.models.reward_head import attach_score_head
from xft.types import IGNORE_INDEX, Sample

VOCABULARY = 300
"""More than the byte tokenizer has."""
PROMPTS = (3, 1, 4, 2)
ANSWERS = ((5, 7), (2, 4), (6, 3), (1, 9))
"""Tokens of the chosen and of the rejected answer of each pair."""


def sample(prompt: list[int], answer: list[int], desirable: bool | None = None) -> Sample:
    """A prompt that is not trained and an answer that is."""
    ids = np.asarray(prompt + answer, dtype=np.int32)
    labels = np.asarray([IGNORE_INDEX] * len(prompt) + answer, dtype=np.int32)
    return Sample(ids, labels, desirable=desirable)


def texts(seed: int = 1) -> list[tuple[list[int], list[int], list[int]]]:
    """Prompt, chosen and rejected answer of each pair, as ids at random; id 0 is among them."""
    generator = np.random.default_rng(seed)

    def ids(length: int) -> list[int]:
        return [int(token) for token in generator.integers(3, 90, length)]

    found = [
        (ids(prompt), ids(chosen), ids(rejected))
        for prompt, (chosen, rejected) in zip(PROMPTS, ANSWERS, strict=True)
    ]
    found[0][1][1] = found[2][2][0] = 0
    return found


def pair_samples() -> list[Sample]:
    """Samples 2i and 2i + 1 are the chosen and the rejected answer of pair i."""
    return [sample(prompt, answer) for prompt, *both in texts() for answer in both]


def judged_samples() -> list[Sample]:
    """One answer to each prompt, wanted and unwanted in turn."""
    return [
        sample(prompt, chosen if number % 2 == 0 else rejected, number % 2 == 0)
        for number, (prompt, chosen, rejected) in enumerate(texts())
    ]


def whole_model(seed: int = 0, family: str = "llama", attention: str = ATTN_IMPLEMENTATION) -> Any:
    """A tiny model, all weights of which are trained."""
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(tiny_config(family, VOCABULARY), attn_implementation=attention)
    for parameter in model.parameters():  # logits far enough apart for answers to differ
        parameter.data.mul_(3)
    return model


def adapted_model(dropout: float = 0.0, attention: str = ATTN_IMPLEMENTATION) -> Any:
    """The same with LoRA on all linear layers, whose update is not zero."""
    config = LoraConfig(
        r=4, lora_alpha=8, lora_dropout=dropout, target_modules="all-linear", task_type="CAUSAL_LM"
    )
    model = get_peft_model(whole_model(attention=attention), config)
    torch.manual_seed(1)
    for name, each in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(each, std=0.1)
    return model


def reward_model(
    seed: int = 0, family: str = "llama", attention: str = ATTN_IMPLEMENTATION, bare: bool = False
) -> Any:
    """A tiny model that gives scores, all weights of which are trained.

    Args:
        seed: of the weights.
        family: of the architecture.
        attention: its implementation.
        bare: leave it as transformers makes it.
    """
    torch.manual_seed(seed)
    config = tiny_config(family, VOCABULARY)
    config.num_labels, config.pad_token_id = 1, 0
    model = AutoModelForSequenceClassification.from_config(config, attn_implementation=attention)
    for parameter in model.parameters():  # scores far enough apart for answers to differ
        parameter.data.mul_(3)
    if not bare:
        attach_score_head(model, "tiny")
    return model


def adapted_reward_model(attention: str = ATTN_IMPLEMENTATION) -> Any:
    """The same with LoRA on all linear layers, whose update is not zero, and a head that is trained."""
    config = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="SEQ_CLS")
    model = get_peft_model(reward_model(attention=attention), config)
    torch.manual_seed(1)
    for name, each in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(each, std=0.1)
    return model


def plain_scores(model: Any, samples: list[Sample]) -> torch.Tensor:
    """The score of each answer, sample by sample, with transformers alone."""
    rows = [torch.from_numpy(each.input_ids.astype(np.int64))[None] for each in samples]
    return torch.cat([model(input_ids=row).logits[:, 0] for row in rows])


def plain_log_probs(model: Any, samples: list[Sample]) -> torch.Tensor:
    """The log-probability of each answer, sample by sample, with transformers alone."""
    found = []
    for each in samples:
        ids = torch.from_numpy(each.input_ids.astype(np.int64))
        begin = int(np.flatnonzero(each.labels != IGNORE_INDEX)[0])
        table = model(input_ids=ids[None]).logits[0].double().log_softmax(dim=-1)
        found.append(sum(table[place - 1, ids[place]] for place in range(max(begin, 1), len(ids))))
    return torch.stack(found)  # type: ignore[arg-type]


PAIR_ROWS = [
    {"prompt": f"Say number {n}", "chosen": f"Number {n}.", "rejected": f"No {'no ' * (n % 4)}"}
    for n in range(24)
]
REWARD = """\
model.update(type="reward_model")
data.update(type="preference", format="preference")
objective = dict(type="reward", margin=0.1, penalty="log_barrier")
eval_prompts = []
"""


def write_json_lines(path: Path, rows: Iterable[Any]) -> Path:
    """Write rows, one a line."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def write_reward_config(folder: Path, model: Path, extra: str = "") -> Path:
    """Write a small config that trains a reward model on ``PAIR_ROWS``, which are put beside it."""
    rows = write_json_lines(folder / "rows.jsonl", PAIR_ROWS)
    return write_config(folder / "reward.py", model, rows, REWARD + extra)

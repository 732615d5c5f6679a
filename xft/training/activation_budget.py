"""Gradient checkpointing of as many layers as the memory asks for, and of no more."""

import os
from collections.abc import Sequence
from typing import Any

import torch

from xft.data import Collator, SampleView
from xft.kernels.logit_chunks import CHUNK_LOGITS, FP32_CHUNK_LOGITS, device_limit
from xft.models import LoadedModel
from xft.models.activation_checkpointing import (
    ActivationMemory,
    checkpointed_layers,
    measure_activation_memory,
    set_activation_checkpointing,
)
from xft.models.model_options import model_options
from xft.run_config.plan import TrainingPlan
from xft.strategies import SingleDevice
from xft.utils.console import format_bytes
from xft.utils.memory import available_bytes

PROBE = 256
"""Tokens of the sample that is tried, where there is one as long."""
HOLES = 1.15
"""What an allocator takes for tensors, as a multiple of their size."""
BEHIND = 2
"""In the backward pass, gradients on their way take as much as so many layers keep."""
FIXED = 500 * 2**20
"""Bytes that a step takes whatever its size: programs of oneDNN for products, workspaces of CUDA's libraries.

Of eight steps of 4,096 tokens on a CPU (two rounds of ``benchmarks/bench_activation_memory.py again``) one took 6 % more than is expected
with these numbers, the others 13 to 58 % less. On a GPU they are a guess.
"""
STATE = 4
"""Bytes of gradients, of the optimizer's state and of what is sent to other ranks, as a multiple of the trained weights':
of AdamW, which has the most."""


def fit_activations(
    loaded: LoadedModel,
    strategy: SingleDevice,
    samples: SampleView,
    plan: TrainingPlan,
    collator: Collator,
) -> str:
    """Choose how many layers make their activations again in the backward pass, so that the largest batch fits.

    What a layer keeps is measured with one sample, and grows with the tokens. All ranks choose alike.

    Args:
        loaded: the model, on its device and before any training.
        strategy: of the run.
        samples: the training split.
        plan: of the run.
        collator: of the run.

    Returns:
        What to say of it; nothing where everything is kept.
    """
    base: Any = loaded.base
    count = len(checkpointed_layers(base))
    if count == 0:
        return ""
    if strategy.params_are_sharded:
        # The weights of such a run are in shares because its memory is scarce, and no rank could try a layer alone.
        set_activation_checkpointing(base, count)
        return f"{count} of {count} layers make their activations again in the backward pass"
    device = base.device
    lengths = samples.lengths.reshape(-1, collator.samples_per_example)
    longest = _probe(lengths.sum(axis=1).tolist())
    set_activation_checkpointing(base, 0)
    kept = measure_activation_memory(loaded.model, base, collator.collate(samples, [longest]).to(device))
    together = strategy.world_size // strategy.data_world_size
    tokens = -(-largest_tokens(lengths, plan, collator.is_padded) // together)
    room = _room(device) - _rest(loaded, tokens)
    needed = [expected(kept, tokens, each) for each in range(count + 1)]
    own = next((each for each, size in enumerate(needed) if size <= room), count)
    chosen = max(strategy.gather(own))
    set_activation_checkpointing(base, chosen)
    if chosen == 0:
        return ""
    tight = "" if min(needed) <= room else "; even so it may not fit"
    return (
        f"{chosen} of {count} layers make their activations again in the backward pass: a batch of {tokens:,} "
        f"tokens would need {format_bytes(needed[0])}, and {format_bytes(max(room, 0))} are free{tight}"
    )


def expected(kept: ActivationMemory, tokens: int, count: int) -> int:
    """Bytes that a step takes at most beside weights, gradients, the optimizer's state and logits.

    Args:
        kept: by the layers.
        tokens: of the batch.
        count: layers that are made again.
    """
    flying = BEHIND * max(kept.layers, default=0) * tokens // kept.tokens
    return int(HOLES * (kept.with_checkpointing(tokens, count) + flying)) + FIXED


def largest_tokens(lengths: Any, plan: TrainingPlan, padded: bool) -> int:
    """Tokens of a micro-batch at most, padding included.

    Args:
        lengths: ``(examples, samples per example)``.
        plan: of the run.
        padded: whether every sample is padded to the longest of its batch.
    """
    batches = plan.batches
    if batches.pack_length is not None:
        return batches.pack_length * batches.micro_batch_size
    if padded:
        return int(lengths.max()) * lengths.shape[1] * min(batches.micro_batch_size, len(lengths))
    return sum(sorted(lengths.sum(axis=1).tolist(), reverse=True)[: batches.micro_batch_size])


def _probe(lengths: Sequence[int]) -> int:
    """The shortest example that is long enough to say something, or else the longest."""
    enough = [each for each in range(len(lengths)) if lengths[each] >= PROBE]
    return (
        min(enough, key=lengths.__getitem__)
        if enough
        else max(range(len(lengths)), key=lengths.__getitem__)
    )


def _room(device: torch.device) -> int:
    """Bytes that this rank may take."""
    # Ranks of one machine share its memory; GPUs have each their own.
    ranks = 1 if device.type == "cuda" else int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return available_bytes(device) // ranks


def _rest(loaded: LoadedModel, tokens: int) -> int:
    """Bytes that a step takes beside what layers keep."""
    base: Any = loaded.base
    size, device = base.dtype.itemsize, base.device
    trained = sum(each.nbytes for each in loaded.model.parameters() if each.requires_grad)
    if model_options(base).fused_kernels:
        behind = device_limit(CHUNK_LOGITS, device) * size + device_limit(FP32_CHUNK_LOGITS, device) * 8
    else:
        # Logits, and in fp32 their logarithms and gradients.
        behind = tokens * base.config.get_text_config().vocab_size * (size + 8)
    return STATE * trained + behind

"""Choose how many layers recompute their activations, from the memory that is free."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
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
from xft.strategies import Strategy
from xft.utils.console import format_bytes
from xft.utils.memory import available_bytes

PROBE_TOKENS = 256
"""Minimum length of the example that is measured, if there is one of that length."""
ALLOCATOR_OVERHEAD = 1.15
"""Memory that an allocator takes for tensors, as a multiple of their size."""
INFLIGHT_GRAD_LAYERS = 2
"""Activation gradients in flight during backward, in units of one layer's saved activations."""
FIXED_OVERHEAD_BYTES = 500 * 2**20
"""Memory of a step that is independent of its size: oneDNN primitives, workspaces of CUDA libraries.

Measured: of eight steps of 4,096 tokens on a CPU (two rounds of ``benchmarks/bench_activation_memory.py
checkpointing``), one took 6 % more than predicted with these constants, the others 13 to 58 % less. On a GPU
they are a guess.
"""
GRAD_AND_OPTIMIZER_FACTOR = 4
"""Memory of gradients, optimizer state and communication buffers, as a multiple of the trainable
parameters; that of AdamW, which has the most."""


def choose_checkpointed_layers(
    loaded: LoadedModel,
    strategy: Strategy,
    samples: SampleView,
    plan: TrainingPlan,
    collator: Collator,
    batch_tokens: int | None = None,
) -> str:
    """Enable activation checkpointing in just enough layers for the largest batch to fit into free memory.

    The activations of a layer are measured with one example, and scale with the number of tokens. All
    ranks choose the same number of layers.

    Args:
        loaded: model on its device, before any training.
        strategy: strategy of the run.
        samples: training split.
        plan: plan of the run.
        collator: collator of the run.
        batch_tokens: largest number of tokens of a batch; by default that of the batches of the plan.

    Returns:
        A line for the log; empty if no layer is checkpointed.
    """
    base = loaded.base
    num_layers = len(checkpointed_layers(base))
    if num_layers == 0:
        return ""
    if strategy.params_are_sharded:
        # Parameters are sharded because memory is scarce, and no rank can run a layer alone to measure it.
        set_activation_checkpointing(base, num_layers)
        return f"activation checkpointing: {num_layers} of {num_layers} layers (auto)"
    device = base.device
    lengths = samples.lengths.reshape(-1, collator.samples_per_example)
    probe = _probe_example(lengths.sum(axis=1).tolist())
    set_activation_checkpointing(base, 0)
    kept = measure_activation_memory(loaded.model, base, collator.collate(samples, [probe]).to(device))
    ranks_per_batch = strategy.world_size // strategy.data_world_size
    tokens = -(-(batch_tokens or largest_tokens(lengths, plan, collator.is_padded)) // ranks_per_batch)
    budget = _available_bytes(device) - _other_bytes(loaded, tokens)
    needed = [predict_step_bytes(kept, tokens, count) for count in range(num_layers + 1)]
    fitting = next((count for count, size in enumerate(needed) if size <= budget), num_layers)
    chosen: int = max(strategy.gather(fitting))
    set_activation_checkpointing(base, chosen)
    if chosen == 0:
        return ""
    tight = "" if min(needed) <= budget else "; may still not fit"
    return (
        f"activation checkpointing: {chosen} of {num_layers} layers (auto): a batch of {tokens:,} tokens needs "
        f"{format_bytes(needed[0])} without it, {format_bytes(max(budget, 0))} free{tight}"
    )


def predict_step_bytes(kept: ActivationMemory, tokens: int, count: int) -> int:
    """Predict the memory of a step without parameters, gradients, optimizer state and logits.

    Args:
        kept: measured activations of the layers.
        tokens: number of tokens in the batch.
        count: number of checkpointed layers.
    """
    inflight = INFLIGHT_GRAD_LAYERS * max(kept.layers, default=0) * tokens // kept.tokens
    return (
        int(ALLOCATOR_OVERHEAD * (kept.with_checkpointing(tokens, count) + inflight)) + FIXED_OVERHEAD_BYTES
    )


def largest_tokens(lengths: npt.NDArray[np.integer[Any]], plan: TrainingPlan, padded: bool) -> int:
    """Return the maximum number of tokens of a micro-batch, padding included.

    Args:
        lengths: sample lengths in tokens, of shape ``(examples, samples per example)``.
        plan: plan of the run.
        padded: whether samples are padded to the longest of their batch.
    """
    sampler = plan.batches
    if sampler.pack_length is not None:
        return sampler.pack_length * sampler.micro_batch_size
    if padded:
        return int(lengths.max()) * lengths.shape[1] * min(sampler.micro_batch_size, len(lengths))
    return int(sum(sorted(lengths.sum(axis=1).tolist(), reverse=True)[: sampler.micro_batch_size]))


def _probe_example(lengths: Sequence[int]) -> int:
    """Return the index of the shortest example of at least ``PROBE_TOKENS``, or else of the longest."""
    long_enough = [index for index in range(len(lengths)) if lengths[index] >= PROBE_TOKENS]
    if long_enough:
        return min(long_enough, key=lengths.__getitem__)
    return max(range(len(lengths)), key=lengths.__getitem__)


def _available_bytes(device: torch.device) -> int:
    """Return the memory that this rank may use."""
    # Ranks of one machine share its memory; each has a GPU of its own.
    ranks = 1 if device.type == "cuda" else int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return available_bytes(device) // ranks


def _other_bytes(loaded: LoadedModel, tokens: int) -> int:
    """Return the memory of a step besides saved activations: gradients, optimizer state, logits."""
    base = loaded.base
    size, device = base.dtype.itemsize, base.device
    trainable = sum(param.nbytes for param in loaded.model.parameters() if param.requires_grad)
    if model_options(base).fused_kernels:
        logits = device_limit(CHUNK_LOGITS, device) * size + device_limit(FP32_CHUNK_LOGITS, device) * 8
    else:
        # Logits, and in fp32 their log-probabilities and gradients.
        logits = tokens * base.config.get_text_config().vocab_size * (size + 8)
    return GRAD_AND_OPTIMIZER_FACTOR * trainable + logits

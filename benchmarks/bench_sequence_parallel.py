"""Measure the memory of a rank for a long sequence, with and without sequence parallelism.

``torchrun --nproc_per_node N benchmarks/bench_sequence_parallel.py [TOKENS] [OUT.json]``, on CPUs or GPUs: a Llama with
random weights and 8 heads runs two steps of LoRA on one sample of TOKENS tokens (default: 8,192), split over all
N ranks. The result is the peak memory of a rank without the weights, and the activations saved for the backward pass.
"""

import json
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from xft.distributed import read_launcher, seed_everything, start_process_group  # noqa: E402
from xft.models import ATTN_IMPLEMENTATION, LoRA, TrainingModel  # noqa: E402
from xft.objectives import next_token  # noqa: E402
from xft.strategies import DDPConfig, SingleDevice  # noqa: E402
from xft.types import Batch  # noqa: E402
from xft.utils import system  # noqa: E402


def main(tokens: int, out: str | None) -> None:
    """Run the measurement; rank 0 prints a line and optionally writes JSON."""
    rank, ranks = read_launcher("pytorch")
    start_process_group("pytorch")
    with tempfile.TemporaryDirectory() as folder:
        strategy = DDPConfig(sequence_parallel_size=ranks).build(folder, 0)
        model = make_model()
        optimizer = torch.optim.AdamW([each for each in model.parameters() if each.requires_grad], lr=1e-3)
        lr_scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _: 1.0)
        strategy.prepare(TrainingModel(model, next_token), optimizer=optimizer, lr_scheduler=lr_scheduler)
        found = [strategy.gather(each) for each in measure(strategy, tokens)]
        loss, needed, kept = found[0][0], max(found[1]), max(found[2])
        strategy.close()
    if rank != 0:
        return
    row = {"ranks": ranks, "tokens": tokens, "loss": loss, "bytes": needed, "kept": kept}
    print(
        f"{ranks} ranks, {tokens:,} tokens: loss {loss:.6f}, peak {needed / 2**20:,.0f} MiB per rank, {kept / 2**20:,.0f} "
        "saved for the backward pass"
    )
    if out is not None:
        Path(out).write_text(json.dumps(row), encoding="utf-8")


def make_model() -> torch.nn.Module:
    """Build a bf16 Llama of 8 heads with LoRA on its linear layers."""
    from transformers import LlamaConfig, LlamaForCausalLM

    seed_everything(0)
    config: Any = LlamaConfig(
        vocab_size=8192,
        hidden_size=512,
        intermediate_size=1536,
        num_hidden_layers=4,
        num_attention_heads=8,
        num_key_value_heads=4,
    )
    config._attn_implementation = ATTN_IMPLEMENTATION
    model: Any = LlamaForCausalLM(config)
    adapted: torch.nn.Module = LoRA(r=8).apply(model.to(torch.bfloat16), [])
    return adapted


def measure(strategy: SingleDevice, tokens: int) -> tuple[float, int, int]:
    """Return the mean loss of the second step, the memory that it added on this rank, and the saved activations.

    Both sizes are in bytes.
    """
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, 8192, (1, tokens), generator=generator)
    batch = Batch(ids, ids.clone(), torch.arange(tokens)[None], seq_lens=[tokens])
    on_gpu = strategy.device.type == "cuda"
    for _ in range(2):  # the first step initializes libraries
        if on_gpu:
            torch.cuda.reset_peak_memory_stats()
        else:
            system.reset_peak_rss()
        before = torch.cuda.memory_allocated() if on_gpu else system.rss_bytes()
        kept: dict[int, int] = {}
        with saved_tensors_hooks(partial(count, kept), lambda each: each):
            output = strategy.forward_backward(batch, 1 / tokens, True)
        peak = torch.cuda.max_memory_allocated() if on_gpu else system.peak_rss_bytes()
        strategy.step(1.0)
    return float(output.loss_sum.detach()) / output.num_targets, peak - before, sum(kept.values())


def count(kept: dict[int, int], tensor: Tensor) -> Tensor:
    """Record the memory of a saved tensor unless it is a weight."""
    if not tensor.is_leaf:
        memory = tensor.untyped_storage()
        kept[memory.data_ptr()] = memory.nbytes()
    return tensor


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 8192, sys.argv[2] if len(sys.argv) > 2 else None)

"""Measure the memory of ranks under each ZeRO stage, and compare it with ``benchmarks/estimate_zero_memory.py``.

``torchrun --nproc_per_node N benchmarks/bench_sharded_checkpoint.py [OUT.json]``, on CPUs or GPUs: a Llama of a few hundred
thousand parameters runs steps in each setting. The tensors of a rank are counted just before the optimizer step, when
gradients exist too.
"""

import json
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from estimate_zero_memory import FULL, LORA, Kind, Memory, memory  # noqa: E402

from xft.distributed import read_launcher, seed_everything, start_process_group  # noqa: E402
from xft.models import LoRA, TrainingModel  # noqa: E402
from xft.models.param_shapes import full_shape  # noqa: E402
from xft.objectives import next_token  # noqa: E402
from xft.strategies import Batching, DeepSpeed, DeepSpeedConfig  # noqa: E402
from xft.types import Batch  # noqa: E402

FULL_FP32 = Kind("full, fp32", 0, 4, 4)
KINDS = {"full, bf16": FULL, "full, fp32": FULL_FP32, "LoRA, bf16 base": LORA}


def main(out: str | None) -> None:
    """Measure every kind and stage; rank 0 prints a table and optionally writes JSON."""
    rank, ranks = read_launcher("pytorch")
    start_process_group("pytorch")
    rows = [
        dict(row, ranks=ranks)
        for name in KINDS
        for stage in (1, 2, 3)
        for row in measure(name, stage, ranks)
    ]
    if rank != 0:
        return
    for row in rows:
        ratio = row["measured"] / row["predicted"]
        print(
            f"{row['kind']:16} ZeRO {row['stage']} on {ranks}: {row['what']:9} {row['measured']:>9,} bytes measured, "
            f"{row['predicted']:>9,} predicted, {ratio:.2f}"
        )
    if out is not None:
        Path(out).write_text(json.dumps(rows), encoding="utf-8")


def measure(name: str, stage: int, ranks: int) -> Iterator[dict[str, Any]]:
    """Measure weights, gradients and optimizer state of one kind under one stage."""
    kind = KINDS[name]
    model = make_model(kind)
    sizes = [(full_shape(each).numel(), each.requires_grad) for each in model.parameters()]
    trained = sum(size for size, trains in sizes if trains)
    frozen = sum(size for size, trains in sizes if not trains)
    expected = memory(kind, frozen, trained, stage, ranks)
    found = held(model, stage)
    for what in ("weights", "gradients", "optimizer"):
        yield {
            "kind": name,
            "stage": stage,
            "what": what,
            "measured": round(getattr(found, what)),
            "predicted": round(getattr(expected, what)),
        }


def make_model(kind: Kind) -> nn.Module:
    """Build a small Llama with random weights and the trainable parameters of ``kind``."""
    from transformers import LlamaConfig, LlamaForCausalLM

    seed_everything(0)
    config = LlamaConfig(
        vocab_size=512,
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        tie_word_embeddings=True,
    )
    model: Any = LlamaForCausalLM(config)
    model = model.to(torch.bfloat16 if 2 in (kind.frozen, kind.trained) else torch.float32)
    adapted: nn.Module = LoRA(r=8).apply(model, []) if kind.frozen else model
    return adapted


def held(model: nn.Module, stage: int) -> Memory:
    """Run two steps, and count the tensors of this rank in the second."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "zero.json"
        # By default, stage 3 does not shard small parameters, and all parameters are small here.
        zero = {"stage": stage, "stage3_param_persistence_threshold": 0, "reduce_bucket_size": "auto"}
        file.write_text(
            json.dumps({"train_batch_size": "auto", "zero_optimization": zero}), encoding="utf-8"
        )
        strategy = DeepSpeedConfig(config_file=str(file)).build(folder, 0)
        optimizer = torch.optim.AdamW([each for each in model.parameters() if each.requires_grad], lr=1e-3)
        lr_scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _: 1.0)
        strategy.prepare(
            TrainingModel(model, next_token),
            optimizer=optimizer,
            lr_scheduler=lr_scheduler,
            batching=Batching(1, 1, 10, None),
        )
        ids = torch.arange(16)[None]
        batch = Batch(ids, ids.clone(), ids.clone(), torch.ones_like(ids))
        for _ in range(2):  # moments exist from the second step
            strategy.forward_backward(batch, 1.0, True)
            found = watch(strategy, model)
    return found


def watch(strategy: DeepSpeed, model: nn.Module) -> Memory:
    """Run an optimizer step, and count tensors when DeepSpeed computes the gradient norm."""
    sharded = strategy.model.optimizer
    name = "_get_norm_groups" if strategy.stage == 3 else "scaled_global_norm"
    compute_norm, counts = getattr(sharded, name), []
    # Stage 1 reduces gradients in the step; before, each rank has the gradients of all parameters.
    whole = total([each.grad for each in model.parameters() if each.grad is not None])

    def count_and_compute(*arguments: Any, **options: Any) -> Any:
        counts.append(count(strategy, model))
        return compute_norm(*arguments, **options)

    setattr(sharded, name, count_and_compute)
    try:
        strategy.step(None)
    finally:
        delattr(sharded, name)
    return replace(counts[0], gradients=whole) if strategy.stage == 1 else counts[0]


def count(strategy: DeepSpeed, model: nn.Module) -> Memory:
    """Count the bytes of weights, gradients and optimizer state on this rank."""
    sharded = strategy.model.optimizer
    if strategy.stage == 3:
        weights = [strategy.local_view(each) for each in model.parameters()]
        gradients = list(sharded._DeepSpeedZeroOptimizer_Stage3__param_id_to_grad_partition.values())
        copies = sharded.fp32_partitioned_groups_flat
    else:
        weights = [each for each in model.parameters() if not each.requires_grad]
        weights += sharded.bit16_groups_flat
        gradients = [each for group in sharded.averaged_gradients.values() for each in group or []]
        copies = sharded.single_partition_of_fp32_groups
    kept = sharded.optimizer.state.values()
    state = [each for group in kept for each in group.values() if isinstance(each, Tensor)]
    return Memory(total(weights), total(gradients), total([*copies, *state]))


def total(tensors: list[Tensor]) -> float:
    """Return the bytes of tensors; shared memory counts once."""
    return float(sum({each.data_ptr(): each.nbytes for each in tensors}.values()))


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else None)

"""Measure the host memory of a rank while it saves a model that FSDP2 shards.

``torchrun --nproc_per_node N benchmarks/bench_sharded_saving.py [MIB] [OUT.json]``, on CPUs: all ranks shard an fp32 Llama of MIB
MiB (default: 256) with random weights, and save it without the optimizer state, as a checkpoint and as the final model. The
results are peaks of the anonymous memory of each rank above that before; pages of files, which the system drops if memory is
short, do not count. A small model goes first, as imports take memory too.
"""

import gc
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import distributed

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from bench_sharded_reading import LAYER_MIB, MemorySampler, write_model  # noqa: E402

from xft.checkpoint.checkpointer import Checkpointer  # noqa: E402
from xft.checkpoint.model_weights import make_weights_writer  # noqa: E402
from xft.checkpoint.resume_state import RunState  # noqa: E402
from xft.distributed import broadcast_object, read_launcher, start_process_group  # noqa: E402
from xft.models import TrainingModel, unwrap  # noqa: E402
from xft.objectives import next_token  # noqa: E402
from xft.optim import adamw, build_optimizer  # noqa: E402
from xft.strategies import FSDP2Config  # noqa: E402


def main(mib: int, out: str | None) -> None:
    """Shard and save; rank 0 prints the peaks and optionally writes JSON."""
    rank, ranks = read_launcher("pytorch")
    start_process_group("pytorch")
    measure(LAYER_MIB)
    size, rows = measure(mib)
    distributed.barrier()
    if rank == 0:
        for name, peaks in rows.items():
            text = ", ".join(f"{peak / 2**20:,.0f}" for peak in peaks)
            print(
                f"{size / 2**20:,.0f} MiB on {ranks} ranks, {name}: {text} MiB above the shards, at most "
                f"{max(peaks) / size:.0%} of the model"
            )
        if out is not None:
            row = {"ranks": ranks, "bytes": size, "peaks": rows}
            Path(out).write_text(json.dumps(row), encoding="utf-8")


def measure(mib: int) -> tuple[int, dict[str, list[int]]]:
    """Return the bytes of a model, and the peaks of each rank for both ways to save."""
    rows = {}
    with tempfile.TemporaryDirectory() as own:
        folder = Path(broadcast_object(own))
        strategy, size = prepare(folder, mib)
        root = folder / "checkpoints"
        root.mkdir(exist_ok=True)
        checkpointer = Checkpointer(root, strategy, lambda: {}, lambda: None)
        gc.collect()
        memory = MemorySampler()
        memory.start()
        checkpointer.save(
            RunState(1, 0, None, "", {}, {}, {}, {}), 1, save_optimizer_state=False, block=True
        )
        result = checkpointer.poll()
        assert result is None or result.error is None
        rows["checkpoint"] = [peaks[0] for peaks in strategy.gather(memory.stop())]
        memory = MemorySampler()
        memory.start()
        with checkpointer.full_weights() as weights:
            if strategy.rank == 0:
                make_weights_writer(unwrap(strategy.model).model)(weights, folder / "final")
            strategy.barrier()
        rows["final model"] = [peaks[0] for peaks in strategy.gather(memory.stop())]
    return size, rows


def prepare(folder: Path, mib: int) -> tuple[Any, int]:
    """Write a model, and read it in shards."""
    from transformers import LlamaForCausalLM

    rank = distributed.get_rank()
    size = broadcast_object(2 * write_model(folder / "base", mib // 2) if rank == 0 else 0)
    config = FSDP2Config()
    with config.model_init_context(torch.float32, is_quantized=False):
        model: Any = LlamaForCausalLM.from_pretrained(folder / "base", dtype=torch.float32)
    strategy = config.build(str(folder), 0)
    optimizer = build_optimizer(adamw, model)
    lr_scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _: 1.0)
    strategy.prepare(TrainingModel(model, next_token), optimizer=optimizer, lr_scheduler=lr_scheduler)
    return strategy, size


if __name__ == "__main__":
    main(
        int(sys.argv[1]) if len(sys.argv) > 1 else 256,
        sys.argv[2] if len(sys.argv) > 2 else None,
    )

"""Measure the host memory of a rank while FSDP2 reads a model from files and shards it.

``torchrun --nproc_per_node N benchmarks/bench_sharded_reading.py [MIB] [OUT.json]``, on CPUs: rank 0 writes a bf16 Llama of MIB
MiB (default: 1,024) with random weights; all ranks read it, attach LoRA and shard it. The results are peaks above the memory before: of the private memory of each rank, and of its proportional set size, in which a
page of the files counts in equal parts for all ranks that map it. The system drops such pages if memory is short. A small
model goes first, as imports take memory too.
"""

import gc
import json
import re
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import torch
from torch import distributed

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from xft.distributed import broadcast_object, read_launcher, seed_everything, start_process_group  # noqa: E402
from xft.models import LoRA, TrainingModel  # noqa: E402
from xft.objectives import next_token  # noqa: E402
from xft.optim import adamw, build_optimizer  # noqa: E402
from xft.strategies import FSDP2Config  # noqa: E402

LAYER_MIB = 16
"""Size of a decoder layer."""


class MemorySampler(threading.Thread):
    """Sample the memory of this process, and keep the peaks.

    Attributes:
        peaks: bytes of private memory and of the proportional set size, above the first sample.
    """

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peaks = [0, 0]
        self._first = self._now()
        self._stopped = threading.Event()

    @staticmethod
    def _now() -> list[int]:
        text = Path("/proc/self/smaps_rollup").read_text(encoding="ascii")
        sizes = {name: 1024 * int(size) for name, size in re.findall(r"(\w+): +(\d+) kB", text)}
        return [sizes["Anonymous"], sizes["Pss"]]

    def _sample(self) -> None:
        above = (now - first for now, first in zip(self._now(), self._first, strict=True))
        self.peaks = [max(pair) for pair in zip(self.peaks, above, strict=True)]

    def run(self) -> None:
        """Sample every 20 ms."""
        while not self._stopped.wait(0.02):
            self._sample()

    def stop(self) -> list[int]:
        """Return the peaks."""
        self._stopped.set()
        self.join()
        self._sample()
        return self.peaks


def main(mib: int, out: str | None) -> None:
    """Write, read and shard; rank 0 prints the peaks and optionally writes JSON."""
    rank, ranks = read_launcher("pytorch")
    start_process_group("pytorch")
    measure(LAYER_MIB, rank)
    size, peaks, seconds = measure(mib, rank)
    distributed.barrier()
    if rank == 0:
        private, proportional = (max(peak) for peak in zip(*peaks, strict=True))
        print(
            f"{size / 2**20:,.0f} MiB on {ranks} ranks: peak per rank {private / 2**20:,.0f} MiB private "
            f"({private / size:.0%}), {proportional / 2**20:,.0f} MiB with pages of the files ({proportional / size:.0%}), "
            f"in {seconds:.0f} s"
        )
        if out is not None:
            row = {"ranks": ranks, "bytes": size, "peaks": peaks}
            Path(out).write_text(json.dumps(row), encoding="utf-8")


def measure(mib: int, rank: int) -> tuple[int, list[list[int]], float]:
    """Return the bytes of a model, the peaks of each rank, and the seconds that reading and sharding took."""
    with tempfile.TemporaryDirectory() as own:
        folder = broadcast_object(own)
        size = broadcast_object(write_model(Path(folder), mib) if rank == 0 else 0)
        gc.collect()
        memory = MemorySampler()
        memory.start()
        config = FSDP2Config()
        begun = time.perf_counter()
        with config.model_init_context(torch.bfloat16, is_quantized=False):
            model = read_model(folder)
        strategy = config.build(own, 0)
        optimizer = build_optimizer(adamw, model)
        lr_scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _: 1.0)
        strategy.prepare(TrainingModel(model, next_token), optimizer=optimizer, lr_scheduler=lr_scheduler)
        assert all(bool(strategy.local_view(param).isfinite().all()) for param in model.parameters())
        peaks = strategy.gather(memory.stop())
    return size, peaks, time.perf_counter() - begun


def write_model(folder: Path, mib: int) -> int:
    """Write a Llama with random weights, and return its bytes."""
    from transformers import LlamaConfig, LlamaForCausalLM

    seed_everything(0)
    config = LlamaConfig(
        vocab_size=1024,
        hidden_size=1024,
        intermediate_size=1365,
        num_hidden_layers=max(1, mib // LAYER_MIB),
        num_attention_heads=16,
        num_key_value_heads=16,
    )
    torch.set_default_dtype(torch.bfloat16)
    model: Any = LlamaForCausalLM(config)
    torch.set_default_dtype(torch.float32)
    model.save_pretrained(folder)
    return int(sum(param.nbytes for param in model.parameters()))


def read_model(folder: str) -> Any:
    """Read the model, and attach LoRA."""
    from transformers import LlamaForCausalLM

    seed_everything(0)
    model: Any = LlamaForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    return LoRA(r=4).apply(model, [])


if __name__ == "__main__":
    main(
        int(sys.argv[1]) if len(sys.argv) > 1 else 1024,
        sys.argv[2] if len(sys.argv) > 2 else None,
    )

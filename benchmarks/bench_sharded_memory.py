"""Measure the host memory of a rank while FSDP2 loads, saves and resumes a model from files.

``torchrun --nproc_per_node N benchmarks/bench_sharded_memory.py [MIB] [OUT.json | -] [CASE ...]``, on CPUs: rank 0 writes a model of MIB
MiB (default: 1,024) with random weights, for each case. All ranks read and shard it; in full training, they also save a
checkpoint without the optimizer state, write the final model, and load the checkpoint again. The results are the largest of all
ranks, above the memory before: the peak of private memory, and the memory at the end with pages of the files, which count in equal
parts for all ranks that map them. The system drops such pages if memory is short. A small model goes first, as imports take memory
too. glibc maps allocations from 1 MiB separately, as it does with the larger weights of real models.
"""

import ctypes
import gc
import json
import re
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import distributed, nn

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from xft.checkpoint.checkpointer import Checkpointer  # noqa: E402
from xft.checkpoint.model_weights import make_weights_writer  # noqa: E402
from xft.checkpoint.resume_state import RunState  # noqa: E402
from xft.checkpoint.snapshot import write_static_files  # noqa: E402
from xft.distributed import broadcast_object, read_launcher, seed_everything, start_process_group  # noqa: E402
from xft.models import NF4, LoRA, TrainingModel, unwrap  # noqa: E402
from xft.models.loading import load_weights  # noqa: E402
from xft.objectives import next_token  # noqa: E402
from xft.optim import adamw, build_optimizer  # noqa: E402
from xft.strategies import FSDP2Config, Strategy  # noqa: E402
from xft.utils.memory import M_MMAP_THRESHOLD, release_freed_memory  # noqa: E402

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Case:
    """What is trained.

    Attributes:
        is_mixture: a mixture of experts, of which each expert is stored in tensors of its own.
        nf4: the base is quantized while it is loaded.
        full: all weights are trained, in fp32; otherwise LoRA on a base in bf16.
        adapter: further options of LoRA.
    """

    is_mixture: bool = False
    nf4: bool = False
    full: bool = False
    adapter: Mapping[str, Any] = field(default_factory=dict)

    @property
    def dtype(self) -> torch.dtype:
        """Return the dtype of the weights in memory and in the files."""
        return torch.float32 if self.full else torch.bfloat16


CASES = {
    "LoRA": Case(),
    "QLoRA": Case(nf4=True),
    "DoRA": Case(adapter={"use_dora": True}),
    "PiSSA": Case(adapter={"init_lora_weights": "pissa_niter_4"}),
    "full": Case(full=True),
    "LoRA, experts": Case(is_mixture=True),
    "QLoRA, experts": Case(is_mixture=True, nf4=True),
    "full, experts": Case(is_mixture=True, full=True),
}


class MemorySampler(threading.Thread):
    """Sample the private memory of this process.

    Attributes:
        peak: largest number of bytes above the first sample.
    """

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak = 0
        self._first = memory()
        self._stopped = threading.Event()

    def run(self) -> None:
        """Sample every 20 ms."""
        while not self._stopped.wait(0.02):
            self.peak = max(self.peak, memory()[0] - self._first[0])

    def stop(self) -> list[int]:
        """Return the peak, and the growth of all memory, when all ranks have come to the end. Collective."""
        self._stopped.set()
        self.join()
        distributed.barrier()
        private, proportional = memory()
        return [max(self.peak, private - self._first[0]), proportional - self._first[1]]


def memory() -> list[int]:
    """Return the private memory of this process, and its proportional set size, in bytes."""
    text = Path("/proc/self/smaps_rollup").read_text(encoding="ascii")
    sizes = {name: 1024 * int(size) for name, size in re.findall(r"(\w+): +(\d+) kB", text)}
    return [sizes["Anonymous"], sizes["Pss"]]


class Measurement:
    """Memory of all ranks by phase.

    Attributes:
        phases: for each phase, what ``MemorySampler.stop`` returns on each rank.
    """

    def __init__(self) -> None:
        self.phases: dict[str, list[list[int]]] = {}

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Measure the body. Collective."""
        gc.collect()
        release_freed_memory()
        distributed.barrier()
        sampler = MemorySampler()
        sampler.start()
        yield
        grown: list[Any] = [None] * distributed.get_world_size()
        distributed.all_gather_object(grown, sampler.stop())
        self.phases[name] = grown


def main(mib: int, out: str | None, names: list[str]) -> None:
    """Measure the cases; rank 0 prints a table and optionally writes JSON."""
    rank, ranks = read_launcher("pytorch")
    start_process_group("pytorch")
    ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, 1 << 20)
    rows = []
    for name in names or CASES:
        measure(CASES[name], 1)
        size, phases = measure(CASES[name], mib)
        for phase, grown in phases.items():
            peak, end = (max(values) for values in zip(*grown, strict=True))
            rows.append({"case": name, "phase": phase, "bytes": size, "peak": peak, "end": end})
            if rank == 0:
                print(
                    f"| {name} | {phase} | {peak / 2**20:,.0f} MiB, {peak / size:.0%} | {end / 2**20:,.0f} MiB, "
                    f"{end / size:.0%} |",
                    flush=True,
                )
    if rank == 0 and out is not None:
        Path(out).write_text(json.dumps({"ranks": ranks, "rows": rows}), encoding="utf-8")


def measure(case: Case, mib: int) -> tuple[int, dict[str, list[list[int]]]]:
    """Return the bytes of a model in files, and the memory of each phase."""
    measurement = Measurement()
    with tempfile.TemporaryDirectory() as made:
        folder = Path(broadcast_object(made))
        size = broadcast_object(
            write_model(folder / "base", case, mib) if distributed.get_rank() == 0 else 0
        )
        with measurement.phase("load"):
            strategy = load(folder, case)
        if case.full:
            save_and_resume(strategy, folder, measurement)
        distributed.barrier()
    return size, measurement.phases


def write_model(folder: Path, case: Case, mib: int) -> int:
    """Write a Llama or a Qwen 3 mixture of experts with random weights, and return its bytes."""
    from transformers import LlamaConfig, LlamaForCausalLM, Qwen3MoeConfig, Qwen3MoeForCausalLM

    seed_everything(0)
    sizes: dict[str, Any] = {"vocab_size": 1024, "hidden_size": 1024, "num_attention_heads": 16}
    sizes |= {"num_key_value_heads": 16, "tie_word_embeddings": False}
    make: Any = LlamaForCausalLM
    config: Any = LlamaConfig(**sizes, intermediate_size=1408)
    if case.is_mixture:
        experts: dict[str, Any] = {
            "num_experts": 16,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 128,
        }
        make, config = Qwen3MoeForCausalLM, Qwen3MoeConfig(**sizes, **experts)
        config.head_dim = 64
    with torch.device("meta"):
        config.num_hidden_layers = 1
        layer = sum(param.numel() for param in make(config).model.layers.parameters()) * case.dtype.itemsize
    config.num_hidden_layers = max(1, round(mib * 2**20 / layer))
    torch.set_default_dtype(case.dtype)
    model = make(config)
    torch.set_default_dtype(torch.float32)
    model.save_pretrained(folder)
    return int(sum(param.nbytes for param in model.parameters()))


def load(folder: Path, case: Case) -> Strategy:
    """Read the model, attach LoRA unless it is trained itself, and shard it."""
    seed_everything(0)
    config = FSDP2Config(device="cpu")
    quantization = NF4() if case.nf4 else None
    with config.model_init_context(case.dtype, case.nf4):
        base = load_weights(str(folder / "base"), case.dtype, quantization=quantization, device=CPU)
    targets = "all" if case.is_mixture else "all-linear"
    model: nn.Module = (
        base if case.full else LoRA(r=4, target_modules=targets, **case.adapter).apply(base, [])
    )
    strategy = config.build(str(folder), 0)
    optimizer = build_optimizer(adamw, model)
    lr_scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _: 1.0)
    strategy.prepare(TrainingModel(model, next_token), optimizer=optimizer, lr_scheduler=lr_scheduler)
    return strategy


def save_and_resume(strategy: Strategy, folder: Path, measurement: Measurement) -> None:
    """Save a checkpoint and the final model, and load the checkpoint, above the memory of shards that were trained."""
    model: Any = unwrap(strategy.model).model
    with torch.no_grad():
        for param in model.parameters():
            strategy.local_view(param).add_(0)  # makes pages of the files private, as a step does
    root = folder / "checkpoints"
    root.mkdir(exist_ok=True)
    static_files = {"config.json": model.config.to_json_string().encode()}
    checkpointer = Checkpointer(root, strategy, lambda: static_files, lambda: None)
    state = RunState(1, 0, None, "", {}, {}, {}, {})
    with measurement.phase("save"):
        checkpointer.save(state, 1, save_optimizer_state=False, block=True)
        result = checkpointer.poll()
        assert result is None or result.error is None, result
    with measurement.phase("final model"), checkpointer.full_weights() as weights:
        if strategy.rank == 0:
            make_weights_writer(model)(weights, folder / "final")
            write_static_files(static_files, folder / "final")
        del weights
        strategy.barrier()
    with measurement.phase("resume"):
        checkpointer.load_weights(root / "step_1")


if __name__ == "__main__":
    arguments = sys.argv[1:]
    main(
        int(arguments[0]) if arguments else 1024,
        arguments[1] if len(arguments) > 1 and arguments[1] != "-" else None,
        arguments[2:],
    )

"""Estimate memory and communication of ZeRO and FSDP2, and print the tables of docs/scaling.md.

A trainable parameter takes memory for itself, its gradient, the two moments of AdamW and, with DeepSpeed, an fp32 copy.
ZeRO (https://arxiv.org/abs/1910.02054) shards moments and copy from stage 1, gradients from stage 2, and parameters
(frozen ones too) from stage 3. FSDP2 shards all of them and has no copy: it trains fp32 parameters and gathers them in
bf16. Activations are extra and depend only on the batch.
``benchmarks/bench_sharded_checkpoint.py`` compares the estimates with real runs.
"""

from collections.abc import Iterator
from dataclasses import dataclass

GIB = 2**30
MOMENTS = 8
"""Bytes per parameter of the two moments of AdamW in fp32; without ZeRO they have the dtype of the parameter."""
COPY = 4
"""Bytes per parameter of the fp32 copy."""
FP32 = 4
BF16 = 2
FSDP2 = "FSDP2"
Stage = int | str
STAGES: tuple[Stage, ...] = (0, 1, 2, 3, FSDP2)
"""ZeRO stages, and FSDP2."""


@dataclass(frozen=True)
class Model:
    """Sizes of a Llama 3 model (https://arxiv.org/abs/2407.21783, table 3)."""

    name: str
    weights: float
    layers: int
    hidden: int
    inner: int
    key_value: int

    def adapter(self, rank: int) -> float:
        """Return the parameters of LoRA on all linear layers: ``r (in + out)`` per layer."""
        h, f, k = self.hidden, self.inner, self.key_value
        sides = [(h, h), (h, k), (h, k), (h, h), (h, f), (h, f), (f, h)]
        return self.layers * rank * sum(map(sum, sides))


MODELS = (
    Model("8B", 8.03e9, 32, 4096, 14336, 1024),
    Model("70B", 70.6e9, 80, 8192, 28672, 1024),
    Model("405B", 405.9e9, 126, 16384, 53248, 1024),
)
RANKS = (8, 64, 256, 1024)


@dataclass(frozen=True)
class Kind:
    """Kind of training, with bytes per parameter.

    Attributes:
        name: name in the tables.
        frozen: bytes per frozen parameter.
        trained: bytes per trainable parameter.
        gradient: bytes per gradient element.
    """

    name: str
    frozen: float
    trained: float
    gradient: float


FULL = Kind("full, bf16", 0, 2, 2)
LORA = Kind("LoRA, bf16 base", 2, 4, 4)
# 4 bits, and one 8-bit constant per 64 weights (https://arxiv.org/abs/2305.14314).
QLORA = Kind("QLoRA, NF4 base", 0.5 + 0.127 / 8, 4, 4)


@dataclass(frozen=True)
class Memory:
    """Bytes on one rank."""

    weights: float
    gradients: float
    optimizer: float

    @property
    def total(self) -> float:
        """Sum of all three."""
        return self.weights + self.gradients + self.optimizer


def memory(kind: Kind, frozen: float, trained: float, stage: Stage, ranks: int) -> Memory:
    """Estimate the memory of one rank.

    Args:
        kind: kind of training.
        frozen: number of frozen parameters.
        trained: number of trainable parameters.
        stage: ZeRO stage, or ``FSDP2``; 0 is plain data parallelism.
        ranks: number of data-parallel ranks.
    """
    if isinstance(stage, str):
        weights = frozen * kind.frozen + trained * FP32
        return Memory(weights / ranks, trained * FP32 / ranks, trained * MOMENTS / ranks)
    kept = MOMENTS + COPY if stage > 0 else 2 * kind.trained
    return Memory(
        (frozen * kind.frozen + trained * kind.trained) / (ranks if stage == 3 else 1),
        trained * kind.gradient / (ranks if stage >= 2 else 1),
        trained * kept / (ranks if stage >= 1 else 1),
    )


def traffic(
    kind: Kind, frozen: float, trained: float, stage: Stage, ranks: int, micro_batches: int
) -> float:
    """Estimate the bytes that one rank sends in an optimizer step, with ring algorithms.

    An all-gather or reduce-scatter of ``M`` bytes sends ``M (n - 1) / n`` per rank; an all-reduce sends twice as much.

    Args:
        kind: kind of training.
        frozen: number of frozen parameters.
        trained: number of trainable parameters.
        stage: ZeRO stage, or ``FSDP2``.
        ranks: number of data-parallel ranks.
        micro_batches: micro-batches per rank and step.
    """
    gradients, weights = trained * kind.gradient, trained * kind.trained
    everything = weights + frozen * kind.frozen
    sent = {
        FSDP2: micro_batches * (2 * (frozen * kind.frozen + trained * BF16) + trained * FP32),
        0: 2 * gradients,
        # DeepSpeed uses an all-reduce although a reduce-scatter would suffice (use_multi_rank_bucket_allreduce).
        1: 2 * gradients + weights,
        2: micro_batches * 2 * gradients + weights,
        3: micro_batches * (2 * everything + gradients),
    }[stage]
    return sent * (ranks - 1) / ranks


def table(kind: Kind, rank: int = 16, micro_batches: int = 1) -> Iterator[str]:
    """Yield a Markdown table: memory and communication by model, number of GPUs and stage."""
    columns = (each if isinstance(each, str) else f"ZeRO {each}" for each in STAGES)
    yield f"| {kind.name} | GPUs | " + " | ".join(columns) + " |"
    yield "|---|---|---|---|---|---|---|"
    for model in MODELS:
        trained = model.weights if kind.frozen == 0 else model.adapter(rank)
        frozen = 0 if kind.frozen == 0 else model.weights
        for ranks in RANKS:
            cells = [
                f"{_size(memory(kind, frozen, trained, stage, ranks).total)} · "
                f"{_size(traffic(kind, frozen, trained, stage, ranks, micro_batches))}"
                for stage in STAGES
            ]
            yield f"| {model.name} | {ranks:,} | " + " | ".join(cells) + " |"


def _size(number: float) -> str:
    gib = number / GIB
    return f"{gib:,.0f}" if gib >= 10 else f"{gib:.1f}" if gib >= 0.1 else f"{gib:.2f}"


if __name__ == "__main__":
    for each in (FULL, LORA, QLORA):
        print("\n".join(table(each)) + "\n")

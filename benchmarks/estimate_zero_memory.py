"""Memory and traffic of ZeRO, by arithmetic: ``python benchmarks/estimate_zero_memory.py`` prints the tables of docs/scaling.md.

A weight that is trained takes memory as itself, as its gradient, as AdamW's two moments, and, where
DeepSpeed keeps one, as a copy in full precision. ZeRO (https://arxiv.org/abs/1910.02054) shares out the
last two from stage 1 on, the gradient from stage 2 on, the weight itself (frozen ones too) from stage 3 on.
Activations come on top, and depend on the batch alone. ``benchmarks/bench_sharded_checkpoint.py`` compares with real runs.
"""

from collections.abc import Iterator
from dataclasses import dataclass

GIB = 2**30
MOMENTS = 8
"""Bytes of AdamW's two moments of a weight, in fp32; without ZeRO they are of the weight's type."""
COPY = 4
"""Bytes of the copy in full precision."""


@dataclass(frozen=True)
class Model:
    """What counts of a Llama 3 (https://arxiv.org/abs/2407.21783, table 3)."""

    name: str
    weights: float
    layers: int
    hidden: int
    inner: int
    key_value: int

    def adapter(self, rank: int) -> float:
        """The weights of LoRA on all linear layers: ``r (in + out)`` for each."""
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
    """What is trained, and in how many bytes.

    Attributes:
        name: of the kind.
        frozen: bytes of a weight that is not trained.
        trained: bytes of a weight that is.
        gradient: bytes of its gradient.
    """

    name: str
    frozen: float
    trained: float
    gradient: float


FULL = Kind("full, bf16", 0, 2, 2)
LORA = Kind("LoRA, bf16 base", 2, 4, 4)
# 4 bits, and the constants of each 64 weights, themselves in 8 bits (https://arxiv.org/abs/2305.14314).
QLORA = Kind("QLoRA, NF4 base", 0.5 + 0.127 / 8, 4, 4)


@dataclass(frozen=True)
class Memory:
    """Bytes on one rank."""

    weights: float
    gradients: float
    optimizer: float

    @property
    def total(self) -> float:
        """All three."""
        return self.weights + self.gradients + self.optimizer


def memory(kind: Kind, frozen: float, trained: float, stage: int, ranks: int) -> Memory:
    """What one rank holds.

    Args:
        kind: of training.
        frozen: how many weights are not trained.
        trained: how many are.
        stage: of ZeRO; 0 is plain data parallelism.
        ranks: that share it out.
    """
    kept = MOMENTS + COPY if stage > 0 else 2 * kind.trained
    return Memory(
        (frozen * kind.frozen + trained * kind.trained) / (ranks if stage == 3 else 1),
        trained * kind.gradient / (ranks if stage >= 2 else 1),
        trained * kept / (ranks if stage >= 1 else 1),
    )


def traffic(kind: Kind, frozen: float, trained: float, stage: int, ranks: int, micro_batches: int) -> float:
    """Bytes that one rank sends in an optimizer step, with rings.

    Gathering or scattering ``M`` bytes takes ``M (n - 1) / n`` from each of ``n`` ranks; a sum that all
    get takes both.

    Args:
        kind: of training.
        frozen: how many weights are not trained.
        trained: how many are.
        stage: of ZeRO.
        ranks: that take part.
        micro_batches: on each rank, in a step.
    """
    gradients, weights = trained * kind.gradient, trained * kind.trained
    everything = weights + frozen * kind.frozen
    sent = {
        0: 2 * gradients,
        # DeepSpeed sums with an all-reduce where a scatter would do (use_multi_rank_bucket_allreduce).
        1: 2 * gradients + weights,
        2: micro_batches * 2 * gradients + weights,
        3: micro_batches * (2 * everything + gradients),
    }[stage]
    return sent * (ranks - 1) / ranks


def table(kind: Kind, rank: int = 16, micro_batches: int = 1) -> Iterator[str]:
    """A table in Markdown: memory and traffic of each model, number of GPUs and stage."""
    yield f"| {kind.name} | GPUs | " + " | ".join(f"ZeRO {each}" for each in range(4)) + " |"
    yield "|---|---|---|---|---|---|"
    for model in MODELS:
        trained = model.weights if kind.frozen == 0 else model.adapter(rank)
        frozen = 0 if kind.frozen == 0 else model.weights
        for ranks in RANKS:
            cells = [
                f"{_size(memory(kind, frozen, trained, stage, ranks).total)} · "
                f"{_size(traffic(kind, frozen, trained, stage, ranks, micro_batches))}"
                for stage in range(4)
            ]
            yield f"| {model.name} | {ranks:,} | " + " | ".join(cells) + " |"


def _size(number: float) -> str:
    gib = number / GIB
    return f"{gib:,.0f}" if gib >= 10 else f"{gib:.1f}" if gib >= 0.1 else f"{gib:.2f}"


if __name__ == "__main__":
    for each in (FULL, LORA, QLORA):
        print("\n".join(table(each)) + "\n")

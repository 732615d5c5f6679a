"""Compare the speed of FSDP2 with that of DDP in LoRA training, on the same ranks.

``torchrun --nproc_per_node 2 benchmarks/bench_fsdp2.py [TOKENS] [ROUNDS] [OUT.json]``, on CPUs or GPUs: a Llama of 4
layers with random weights trains on TOKENS tokens a rank and step (default: 2,048). All strategies exist at the same time,
and take one step each in turn, in ROUNDS rounds (default: 15); other load on the machine therefore hits all of them alike.
"""

import json
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from bench_sequence_parallel import make_model  # noqa: E402

from xft.distributed import read_launcher, start_process_group  # noqa: E402
from xft.models import TrainingModel  # noqa: E402
from xft.models.loading import choose_dtype  # noqa: E402
from xft.objectives import next_token  # noqa: E402
from xft.optim import adamw, build_optimizer  # noqa: E402
from xft.strategies import DDPConfig, FSDP2Config, Strategy, StrategyConfig  # noqa: E402
from xft.types import Batch  # noqa: E402
from xft.utils.memory import tune_glibc_malloc  # noqa: E402

CONFIGS: dict[str, StrategyConfig] = {
    "DDP": DDPConfig(),
    "FSDP2": FSDP2Config(),
    "FSDP2, reshard_after_forward=False": FSDP2Config(reshard_after_forward=False),
}
WARM_UP = 2


def main(tokens: int, rounds: int, out: str | None) -> None:
    """Run all strategies in turn; rank 0 prints a line for each and optionally writes JSON."""
    tune_glibc_malloc()
    rank, ranks = read_launcher("pytorch")
    start_process_group("pytorch")
    with tempfile.TemporaryDirectory() as folder:
        strategies = {name: prepare(config, folder) for name, config in CONFIGS.items()}
        generator = torch.Generator().manual_seed(rank)
        ids = torch.randint(0, 8192, (1, tokens), generator=generator)
        batch = Batch(ids, ids.clone(), torch.arange(tokens)[None], seq_lens=[tokens])
        seconds: dict[str, list[float]] = {name: [] for name in CONFIGS}
        losses: dict[str, float] = {}
        for _ in range(WARM_UP + rounds):
            for name, strategy in strategies.items():
                strategy.barrier()
                begun = time.perf_counter()
                output = strategy.forward_backward(batch, 1 / (tokens * ranks), True)
                strategy.step(1.0)
                seconds[name].append(max(strategy.gather(time.perf_counter() - begun)))
                losses[name] = strategy.reduce_sum([float(output.loss_sum.detach())])[0] / (tokens * ranks)
    if rank == 0:
        rows = [summarize(name, seconds, tokens * ranks, losses[name]) for name in CONFIGS]
        for row in rows:
            print(
                f"{row['strategy']:36} {row['tokens_per_second']:8,.0f} tokens/s  {row['ratio']:.2f} of DDP  "
                f"loss {row['loss']:.6f}"
            )
        if out is not None:
            Path(out).write_text(json.dumps(rows), encoding="utf-8")


def prepare(config: StrategyConfig, folder: str) -> Strategy:
    """Build a strategy with a model of its own."""
    strategy = config.build(folder, 0)
    model = make_model().to(choose_dtype("auto", strategy.device))
    optimizer = build_optimizer(adamw, model)
    lr_scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _: 1.0)
    strategy.prepare(TrainingModel(model, next_token), optimizer=optimizer, lr_scheduler=lr_scheduler)
    return strategy


def summarize(
    name: str, seconds: dict[str, list[float]], tokens: int, loss: float
) -> dict[str, float | str]:
    """Return median speed, and the median ratio to DDP of the same round."""
    pairs = zip(seconds["DDP"][WARM_UP:], seconds[name][WARM_UP:], strict=True)
    return {
        "strategy": name,
        "tokens_per_second": tokens / median(seconds[name][WARM_UP:]),
        "ratio": median(ddp / other for ddp, other in pairs),
        "loss": loss,
    }


if __name__ == "__main__":
    arguments = sys.argv[1:]
    main(
        int(arguments[0]) if arguments else 2048,
        int(arguments[1]) if len(arguments) > 1 else 15,
        arguments[2] if len(arguments) > 2 else None,
    )

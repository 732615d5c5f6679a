"""``xft train``."""

import argparse
import os

from xft.commands.options import add_options
from xft.commands.shared import Command, importing
from xft.errors import ConfigError
from xft.utils.system import rank_from_env


def _add_train(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--work-dir", metavar="DIR", help="run folder (default: runs/NAME_OF_THE_CONFIG)")
    add_options(parser)
    parser.add_argument(
        "--resume",
        nargs="?",
        const="",
        metavar="PATH",
        help="resume from a checkpoint, or from the newest one of a run folder (default: that of --work-dir)",
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="run the largest batch through every part of the run, estimate its memory, time and disk space, "
        "and write nothing",
    )
    parser.add_argument("--seed", type=int, metavar="N", help="seed, instead of that of the config")
    parser.add_argument(
        "--launcher",
        choices=("none", "pytorch", "slurm", "mpi"),
        default="none",
        help="launcher of the processes: torchrun (pytorch), srun (slurm) or mpirun (mpi)",
    )
    parser.add_argument(
        "--nproc-per-node",
        type=int,
        metavar="N",
        help="number of processes on this machine, one per device; starts torchrun",
    )
    parser.add_argument(
        "--fsdp",
        action="store_true",
        help="shard parameters, gradients and optimizer state with FSDP2 of torch",
    )
    parser.add_argument(
        "--deepspeed",
        metavar="NAME|FILE",
        help="shard with DeepSpeed: zero1, zero2, zero3, zero2_offload, zero3_offload or a JSON file",
    )
    parser.add_argument(
        "--sequence-parallel-size",
        type=int,
        metavar="N",
        help="number of consecutive ranks that split the tokens of each batch (Ulysses)",
    )


def _train(arguments: argparse.Namespace) -> int:
    count, launcher = arguments.nproc_per_node, arguments.launcher
    _check_launcher(arguments)
    starts_ranks = count is not None and (count != 1 or launcher == "none")
    if starts_ranks and launcher != "none":
        raise ConfigError(
            key="--nproc-per-node",
            got=count,
            expected=f"no --nproc-per-node with --launcher {launcher}, which starts the processes",
        )
    # A rank that --nproc-per-node has started has both options: its parent has checked the config.
    is_checked = launcher != "none" and count is not None
    is_first = rank_from_env(launcher) == 0
    if is_first and not is_checked:
        _precheck(arguments)
    if starts_ranks:
        from xft.distributed.launch import spawn_local_ranks

        # Why: every rank trains with the config that was made here.
        made = ["--temporary-config", arguments.config] if arguments.model is not None else []
        return spawn_local_ranks(count, [*arguments.argv, *made])
    with importing():
        from xft.run_config.config import RunConfig
        from xft.training.train import TrainOptions, train
    from xft.config.snapshot import save_snapshot

    if is_first:
        save_snapshot(RunConfig)
    train(
        TrainOptions(
            config=arguments.config,
            work_dir=arguments.work_dir,
            overrides=arguments.cfg_options,
            safe_config=arguments.safe_config,
            resume=arguments.resume,
            seed=arguments.seed,
            launcher=arguments.launcher,
            fsdp=arguments.fsdp,
            deepspeed=arguments.deepspeed,
            sequence_parallel_size=arguments.sequence_parallel_size,
            dry_run=arguments.dry_run,
            is_temporary_config=arguments.model is not None,
        )
    )
    return 0


def _check_launcher(arguments: argparse.Namespace) -> None:
    """Refuse a process that torchrun has started as one of several, and that would train alone.

    Raises:
        ConfigError: there are several processes, and no launcher is named.
    """
    count = os.environ.get("WORLD_SIZE", "")
    if arguments.launcher != "none" or arguments.nproc_per_node is not None:
        return
    if count.isdecimal() and int(count) > 1:
        arguments.launcher = "pytorch"  # one rank prints the error
        local = os.environ.get("LOCAL_WORLD_SIZE", count)
        raise ConfigError(
            f"WORLD_SIZE is {count}, and each process would train alone: add --launcher pytorch to the command that "
            f"torchrun starts, or start it with --nproc-per-node {local} and without torchrun",
            key="WORLD_SIZE",
            got=int(count),
            expected="--launcher pytorch",
        )


def _precheck(arguments: argparse.Namespace) -> None:
    """Report mistakes before torch is imported."""
    from xft.commands.precheck import precheck
    from xft.config import load_config, parse_overrides
    from xft.run_config.strategy_options import StrategyOptions

    overrides = parse_overrides(arguments.cfg_options)
    config = load_config(arguments.config, overrides, arguments.safe_config)
    is_launched = arguments.launcher != "none" or arguments.nproc_per_node is not None
    StrategyOptions(
        arguments.fsdp, arguments.deepspeed, arguments.sequence_parallel_size, is_launched
    ).apply(config, overrides)
    precheck(config, arguments.config)


TRAIN = Command(
    "train a model",
    _add_train,
    _train,
    examples=(
        "xft train smollm2_lora --work-dir runs/a",
        "xft train smollm2_lora --dry-run",
        "xft train --model Qwen/Qwen2.5-0.5B-Instruct --data my_rows.csv --method qlora",
        "xft train qwen3_8b --method orpo --data my_pairs.jsonl",
        "xft train smollm2_lora data.path=my_rows.jsonl training.epochs=2",
        "xft train CONFIG --work-dir RUN --resume",
        "xft train CONFIG --nproc-per-node 8 --fsdp",
        "xft train CONFIG --nproc-per-node 8 --deepspeed zero2",
    ),
)

"""``xft train``."""

import argparse

from xft.commands.shared import Command, add_options, importing
from xft.errors import ConfigError


def _add_train(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "config", metavar="CONFIG", help="a config file; `xft list configs` shows the shipped ones"
    )
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
    count = arguments.nproc_per_node
    if count is not None and (count != 1 or arguments.launcher == "none"):
        if arguments.launcher != "none":
            raise ConfigError(
                key="--nproc-per-node",
                got=count,
                expected=f"no --nproc-per-node with --launcher {arguments.launcher}, which starts the processes",
            )
        from xft.distributed.launch import spawn_local_ranks

        return spawn_local_ranks(count, arguments.argv)
    with importing():
        from xft.training.train import TrainOptions, train

    train(
        TrainOptions(
            config=arguments.config,
            work_dir=arguments.work_dir,
            overrides=arguments.cfg_options,
            safe_config=arguments.safe_config,
            resume=arguments.resume,
            seed=arguments.seed,
            launcher=arguments.launcher,
            deepspeed=arguments.deepspeed,
            sequence_parallel_size=arguments.sequence_parallel_size,
            dry_run=arguments.dry_run,
        )
    )
    return 0


TRAIN = Command(
    "train a model",
    _add_train,
    _train,
    examples=(
        "xft train configs/smollm2_lora.py --work-dir runs/a",
        "xft train configs/smollm2_lora.py --dry-run",
        "xft train configs/smollm2_lora.py --cfg-options data.path=my_rows.jsonl",
        "xft train CONFIG --work-dir RUN --resume",
        "xft train CONFIG --nproc-per-node 8 --deepspeed zero2",
    ),
)

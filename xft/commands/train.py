"""``xft train``."""

import argparse

from xft.commands.shared import Command, add_options, importing
from xft.errors import ConfigError


def _add_train(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "config", metavar="CONFIG", help="a config file; `xft list configs` shows the shipped ones"
    )
    parser.add_argument(
        "--work-dir", metavar="DIR", help="the run folder (default: runs/NAME_OF_THE_CONFIG)"
    )
    add_options(parser)
    parser.add_argument(
        "--resume",
        nargs="?",
        const="",
        metavar="PATH",
        help="go on from a checkpoint, or from the newest one of a run folder (default: --work-dir's)",
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="rehearse: the longest batch through every part of the run; says what memory, time and disk "
        "the run will take, and leaves nothing behind",
    )
    parser.add_argument("--seed", type=int, metavar="N", help="in place of the config's")
    parser.add_argument(
        "--launcher",
        choices=("none", "pytorch", "slurm", "mpi"),
        default="none",
        help="what starts a process on each device: torchrun, srun or mpirun",
    )
    parser.add_argument(
        "--nproc-per-node",
        type=int,
        metavar="N",
        help="train on N devices of this machine: starts torchrun for you",
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
        help="N neighbouring ranks compute each batch together, each a share of its tokens (Ulysses)",
    )


def _train(arguments: argparse.Namespace) -> int:
    count = arguments.nproc_per_node
    if count is not None and (count != 1 or arguments.launcher == "none"):
        if arguments.launcher != "none":
            raise ConfigError(
                f"--nproc-per-node {count}: --launcher {arguments.launcher} starts the processes; give one of the two"
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
    "train as a config says",
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

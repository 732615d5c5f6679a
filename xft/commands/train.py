"""``xft train``."""

import argparse

from xft.commands.shared import Command, add_options
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
    parser.add_argument("--seed", type=int, metavar="N", help="in place of the config's")
    parser.add_argument("--launcher", choices=("none", "pytorch", "slurm", "mpi"), default="none")
    parser.add_argument(
        "--deepspeed", metavar="NAME|FILE", help="shard with DeepSpeed (not built yet: refused)"
    )


def _train(arguments: argparse.Namespace) -> None:
    if arguments.deepspeed is not None:
        raise ConfigError(
            "--deepspeed: sharding with DeepSpeed is not built yet; run without it on one device, or on several "
            "with `torchrun --nproc_per_node N tools/train.py CONFIG --launcher pytorch`"
        )
    from xft.engine.train import TrainOptions, train

    train(
        TrainOptions(
            config=arguments.config,
            work_dir=arguments.work_dir,
            overrides=arguments.cfg_options,
            data_only=arguments.data_only,
            resume=arguments.resume,
            seed=arguments.seed,
            launcher=arguments.launcher,
        )
    )


TRAIN = Command("train as a config says", _add_train, _train)

"""The commands of ``xft``: what each takes, and what it calls. Each imports what it needs itself."""

import argparse
import os
import sys
from collections.abc import Callable

from xft.errors import ConfigError

Command = Callable[[argparse.Namespace], None]


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        action="extend",
        default=[],
        metavar="K=V",
        help="override values of the config, e.g. data.max_length=1024 model.adapter.r=8",
    )


def _trust(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--trust-remote-code",
        action="store_true",
        help="run Python code that lies beside the weights: read it first",
    )


def _add_train(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "config", metavar="CONFIG", help="a config file; `xft list configs` shows the shipped ones"
    )
    parser.add_argument(
        "--work-dir", metavar="DIR", help="the run folder (default: runs/NAME_OF_THE_CONFIG)"
    )
    _options(parser)
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
            resume=arguments.resume,
            seed=arguments.seed,
            launcher=arguments.launcher,
        )
    )


def _add_chat(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", metavar="PATH", help="a run folder, a checkpoint, an adapter or a model")
    parser.add_argument("--adapter", metavar="PATH", help="an adapter to put on the model")
    parser.add_argument("--prompt", nargs="+", metavar="TEXT", help="answer each of these once, and exit")
    parser.add_argument("--system", metavar="TEXT", help="a system turn before all others")
    parser.add_argument("--max-new-tokens", type=int, default=512, metavar="N")
    parser.add_argument(
        "--temperature",
        type=float,
        default=0.0,
        metavar="T",
        help="0: the likeliest token each time",
    )
    parser.add_argument("--bits", type=int, choices=(4, 8), help="hold the base in so many bits")
    _trust(parser)


def _chat(arguments: argparse.Namespace) -> None:
    from xft.chat import open_session, talk

    if arguments.max_new_tokens < 1 or arguments.temperature < 0:
        raise ConfigError("--max-new-tokens must be at least 1, and --temperature 0 or more")
    session = open_session(
        arguments.path,
        adapter=arguments.adapter,
        bits=arguments.bits,
        system=arguments.system,
        max_new_tokens=arguments.max_new_tokens,
        temperature=arguments.temperature,
        trust_remote_code=arguments.trust_remote_code,
    )
    if arguments.prompt is None:
        talk(session)
        return
    for prompt in arguments.prompt:
        print(session.ask_once(prompt), flush=True)


def _add_score(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "path", metavar="PATH", help="a run folder, a checkpoint, an adapter or a reward model"
    )
    parser.add_argument(
        "rows", metavar="FILE", help="rows of chosen and rejected, prompt and completion, or messages"
    )
    parser.add_argument("--format", metavar="NAME", help="of the rows (default: by their columns)")
    parser.add_argument("--out", metavar="FILE", help="write the scores there, one JSON object a row")
    parser.add_argument("--bits", type=int, choices=(4, 8), help="hold the base in so many bits")
    _trust(parser)


def _score(arguments: argparse.Namespace) -> None:
    from xft.evaluation.rating import score_file

    for line in score_file(
        arguments.path,
        arguments.rows,
        format=arguments.format,
        out=arguments.out,
        bits=arguments.bits,
        trust_remote_code=arguments.trust_remote_code,
    ):
        print(line)


def _add_convert(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source", metavar="RUN_OR_CHECKPOINT", help="a run folder, a checkpoint or an adapter"
    )
    parser.add_argument("out", metavar="OUT", help="a folder that does not exist yet")
    parser.add_argument("--merge", action="store_true", help="fold the adapter into the model")
    parser.add_argument(
        "--dtype",
        choices=("bfloat16", "float16", "float32"),
        help="of the weights that are written",
    )
    parser.add_argument("--max-shard-size", default="5GB", metavar="SIZE", help="of a file of weights")
    _trust(parser)


def _convert(arguments: argparse.Namespace) -> None:
    from xft.export import convert

    comparison = convert(
        arguments.source,
        arguments.out,
        merged=arguments.merge,
        dtype=arguments.dtype,
        max_shard_size=arguments.max_shard_size,
        trust_remote_code=arguments.trust_remote_code,
    )
    kind = "merged model" if arguments.merge else "model"
    print(f"wrote the {kind} to {arguments.out}; reloaded and compared with what was trained: {comparison}")


def _add_inspect(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", metavar="CONFIG")
    parser.add_argument(
        "--num", type=int, metavar="N", help="how many samples, or pairs (default: 3; with --html none)"
    )
    parser.add_argument("--split", choices=("train", "val"), default="train")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="one object a sample: input_ids, labels, text")
    form.add_argument("--html", metavar="FILE", help="write a page in which any sample can be looked at")
    _options(parser)


def _add_prepare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", metavar="CONFIG")
    _options(parser)


def _prepare(arguments: argparse.Namespace) -> None:
    from xft.engine.inspect import prepare
    from xft.engine.report import totals

    prepared, _, recipe = prepare(arguments.config, arguments.cfg_options)
    print("\n".join(totals(prepared, recipe)))


def _inspect(arguments: argparse.Namespace) -> None:
    from xft.engine.inspect import as_json, in_colour, prepare, side
    from xft.engine.page import check_target, write_page
    from xft.engine.report import totals

    if arguments.html is not None:
        check_target(arguments.html)
    prepared, tokenizer, recipe = prepare(arguments.config, arguments.cfg_options)
    unit = prepared.unit
    num = (0 if arguments.html else 3) if arguments.num is None else max(arguments.num, 0)
    samples = (prepared.train if arguments.split == "train" else prepared.val)[: num * unit]
    if arguments.json:
        print("\n".join(as_json(samples, tokenizer)))
        return
    colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    if samples:
        print("trained tokens are " + ("green" if colour else "in [[ ]]") + "; the rest is only read\n")
    for index, sample in enumerate(samples):
        name = f"{arguments.split} {index // unit + 1} {side(sample, index % unit, unit)}".strip()
        print(f"--- {name}: {len(sample)} tokens, {sample.num_targets} trained")
        print(in_colour(sample, tokenizer, colour) + "\n")
    print("\n".join(totals(prepared, recipe)))
    if arguments.html is not None:
        page, *others = write_page(
            arguments.html, os.path.basename(arguments.config), prepared, tokenizer, recipe
        )
        beside = f", and {len(others):,} files of samples in {others[0].parent}" if others else ""
        print(f"\nwrote {page}{beside}: open it in a browser")


def _add_check(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", metavar="CONFIG")
    _options(parser)


def _check(arguments: argparse.Namespace) -> None:
    from xft.config import check, load_config, parse_overrides
    from xft.engine.recipe import Recipe

    config = load_config(arguments.config, parse_overrides(arguments.cfg_options))
    check(config, Recipe, arguments.config)
    print(f"{arguments.config}: every key is known, and every value fits")


def _add_list(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "what",
        nargs="?",
        default="configs",
        help="configs (default), or a kind of component: formats, templates, hooks, ...",
    )


def _list(arguments: argparse.Namespace) -> None:
    from xft.catalogue import listing

    print("\n".join(listing(arguments.what)))


def _add_copy(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="CONFIG", help="the name of a shipped config")
    parser.add_argument("to", nargs="?", default=".", metavar="DIR", help="where the copy goes")


def _copy(arguments: argparse.Namespace) -> None:
    from xft.catalogue import copy_config

    print(
        f"wrote {copy_config(arguments.name, arguments.to)}; it has all values in one file, change what you like"
    )


COMMANDS: dict[str, tuple[str, Callable[[argparse.ArgumentParser], None], Command]] = {
    "train": ("train as a config says", _add_train, _train),
    "chat": ("talk to what was trained", _add_chat, _chat),
    "score": ("score rows with a reward model", _add_score, _score),
    "convert": ("write a Hugging Face folder", _add_convert, _convert),
    "inspect-data": ("see what the model will see", _add_inspect, _inspect),
    "prepare": (
        "prepare the data ahead of a run, into the cache that the run will read",
        _add_prepare,
        _prepare,
    ),
    "check": ("check a config without building anything", _add_check, _check),
    "list": (
        "list the shipped configs, or the components that a config may name",
        _add_list,
        _list,
    ),
    "copy": ("copy a shipped config, to change it", _add_copy, _copy),
}

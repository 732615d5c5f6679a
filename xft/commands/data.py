"""``xft inspect-data`` and ``xft prepare-data``."""

import argparse
import os

from xft.commands.options import add_options
from xft.commands.shared import Command


def _add_inspect(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--num",
        type=int,
        metavar="N",
        help="number of samples or pairs to print (default: 3; with --html 0)",
    )
    parser.add_argument(
        "--split", choices=("train", "val"), default="train", help="split to print (default: train)"
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument(
        "--json", action="store_true", help="print one JSON object per sample: input_ids, labels, text"
    )
    form.add_argument("--html", metavar="FILE", help="write an HTML page that shows every sample")
    add_options(parser)


def _inspect(arguments: argparse.Namespace) -> None:
    from xft.reporting.data_page import check_target, write_data_page
    from xft.reporting.data_summary import summarize_data
    from xft.reporting.inspect_samples import as_json, colorize_sample, image_label, pair_label, prepare
    from xft.reporting.summary_format import format_summary
    from xft.utils import console

    if arguments.html is not None:
        check_target(arguments.html)
    inspected = prepare(arguments.config, arguments.cfg_options, arguments.safe_config)
    prepared, processor = inspected.data, inspected.processor
    unit = prepared.samples_per_example
    num = (0 if arguments.html else 3) if arguments.num is None else max(arguments.num, 0)
    samples = (prepared.train if arguments.split == "train" else prepared.val)[: num * unit]
    if arguments.json:
        console.echo("\n".join(as_json(samples, inspected.tokenizer)))
        return
    color = console.use_color()
    if samples:
        console.echo("targets are " + ("green" if color else "in [[ ]]") + "; the rest is context\n")
    for index, sample in enumerate(samples):
        name = f"{arguments.split} {index // unit + 1} {pair_label(sample, index % unit, unit)}".strip()
        console.echo(f"--- {name}: {len(sample)} tokens, {sample.num_targets} targets")
        if processor is not None:
            for image in sample.images:
                console.echo(f"image: {image_label(image, processor)}")
        console.echo(colorize_sample(sample, inspected.decoder(), color) + "\n", styled=True)
    console.echo("\n".join(format_summary(summarize_data(prepared, inspected.run_config))))
    if arguments.html is not None:
        page, *others = write_data_page(
            arguments.html,
            os.path.basename(arguments.config),
            prepared,
            inspected.tokenizer,
            inspected.run_config,
            processor,
        )
        beside = f", and {len(others):,} files of samples in {others[0].parent}" if others else ""
        console.echo(f"\nwrote {page}{beside}: open it in a browser")


def _add_prepare(parser: argparse.ArgumentParser) -> None:
    add_options(parser)


def _prepare(arguments: argparse.Namespace) -> None:
    from xft.reporting.data_summary import summarize_data
    from xft.reporting.inspect_samples import prepare
    from xft.reporting.summary_format import format_summary
    from xft.utils.console import echo

    inspected = prepare(arguments.config, arguments.cfg_options, arguments.safe_config)
    echo("\n".join(format_summary(summarize_data(inspected.data, inspected.run_config))))


INSPECT = Command(
    "print samples as the model sees them, with the target tokens marked",
    _add_inspect,
    _inspect,
    examples=(
        "xft inspect-data smollm2_lora",
        "xft inspect-data smollm2_lora --html d.html",
    ),
)
PREPARE = Command(
    "tokenize the data of a config into the cache",
    _add_prepare,
    _prepare,
    examples=("xft prepare-data smollm2_lora",),
)

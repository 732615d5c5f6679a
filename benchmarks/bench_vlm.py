"""Compare the training of a vision-language model in xft with TRL's SFTTrainer: tokens per second, peak memory.

    python benchmarks/bench_vlm.py --rows ../shared/data/alpaca_en_demo.json
    OMP_NUM_THREADS=1 python benchmarks/bench_vlm.py --rows alpaca.json --clock cpu     # on a machine with other load

Every row is an Alpaca instruction, below a picture of an emoji. Both train the same LoRA (r 16, all linear layers of the
language model) on the model of the vision demo, the tower frozen, in fp32 without gradient checkpointing, for one epoch: xft
with packed batches of 1,024 tokens, and TRL, which does not pack rows with images, with padded batches of --batch rows. TRL
trains all tokens, and xft answers. Tokens are those of text and images without padding; the benchmark fails if the two count
different numbers in the epoch. Seconds cover all of a step, without the first steps. Each run has its own process, and the
two frameworks alternate.
"""

import argparse
import json
import statistics
import sys
import tempfile
from importlib import import_module
from pathlib import Path
from typing import Any

from step_clock import CLOCKS, StepClock
from trl_comparison import (
    ALPHA,
    RANK,
    SIDES,
    count_tokens,
    read_lines,
    run_side,
    train_xft,
    trl_lora,
    trl_watch,
    write_figures,
)

WARM_UP = 2
LENGTH = 1024
LANGUAGE, VISION = "xft://smollm2-135m-instruct", "xft://efficientnet-lite0"
CONFIG = """\
model = dict(type="llava", path={language!r}, vision={vision!r}, dtype="float32")
adapter = dict(type="lora", r={rank}, lora_alpha={alpha})
data = dict(type="instruction", path={rows!r}, val_split=None, max_length={length}, cache_dir={cache!r})
training = dict(epochs=1, micro_batch_size=1, gradient_accumulation_steps=1, max_grad_norm=1.0, min_steps_per_epoch=0)
optimizer = dict(type="adamw", lr=1e-4)
lr_scheduler = dict(type="constant", warmup_steps=0)
hooks = dict(clock=dict(type="step_clock.StepClock", clock={clock!r}), progress=dict(type="progress"))
loggers = dict(jsonl=dict(type="jsonl"))
"""


def main() -> None:
    """Alternate both frameworks and print their speed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=Path, required=True, help="a JSON file of Alpaca rows")
    parser.add_argument("--count", type=int, default=96, help="number of rows")
    parser.add_argument("--batch", type=int, default=8, help="rows per step in TRL")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of one run of xft and one of TRL")
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    parser.add_argument("--part", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.part:
        part = {"xft": _xft, "trl": _trl}[arguments.part]
        write_figures(arguments.folder, part(arguments.folder, arguments))
        return
    with tempfile.TemporaryDirectory() as folder:
        _compare(Path(folder), arguments)


def _compare(folder: Path, arguments: argparse.Namespace) -> None:
    _write_rows(folder, arguments)
    rates: dict[str, list[float]] = {side: [] for side in SIDES}
    for number in range(1, arguments.rounds + 1):
        totals = []
        for side in SIDES:
            options = {name: getattr(arguments, name) for name in ("rows", "batch", "clock")}
            figures = run_side(__file__, side, folder / f"{side}_{number}", options)
            totals.append(sum(figures["tokens"]))
            rates[side].append(sum(figures["tokens"][WARM_UP:]) / sum(figures["seconds"][WARM_UP:]))
            memory = figures["memory"] / 2**20
            print(
                f"round {number}   {side}  {rates[side][-1]:7.1f} tokens/s  {memory:,.0f} MiB", flush=True
            )
        if totals[0] != totals[1]:
            sys.exit(f"tokens of the epoch differ between xft and TRL: {totals}")
    print(f"tokens    {totals[0]:,} in {arguments.count} rows")
    ratios = [ours / theirs for ours, theirs in zip(rates["xft"], rates["trl"], strict=True)]
    print(
        f"xft / TRL: {statistics.median(ratios):.2f} in tokens per second ({min(ratios):.2f} to {max(ratios):.2f})"
    )


def _write_rows(folder: Path, arguments: argparse.Namespace) -> None:
    """Write rows that both read: messages, and the path of a picture."""
    from xft.data.emoji.rows import NAMES, write_rows

    pictures = folder / "pictures"
    pictures.mkdir()
    write_rows(pictures)
    names = [json.loads(line)["images"][0] for line in (pictures / NAMES[0]).read_text().splitlines()]
    rows = json.loads(arguments.rows.read_text(encoding="utf-8"))[: arguments.count]
    with (folder / "rows.jsonl").open("w", encoding="utf-8") as file:
        for row, name in zip(rows, names, strict=False):
            question = "\n".join(filter(None, [row["instruction"], row.get("input")]))
            turns = [
                {"role": "user", "content": f"<image>\n{question}"},
                {"role": "assistant", "content": row["output"]},
            ]
            file.write(json.dumps({"messages": turns, "images": [str(pictures / name)]}) + "\n")


def _xft(run: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Run `xft train`."""
    values = {"rows": str(run.parent / "rows.jsonl"), "cache": str(run / "cache"), "clock": arguments.clock}
    text = CONFIG.format(rank=RANK, alpha=ALPHA, length=LENGTH, language=LANGUAGE, vision=VISION, **values)
    lines = train_xft(run, text)
    tokens = [line["tokens"] for line in lines if line["split"] == "train"]
    return {"tokens": tokens, "seconds": StepClock.seconds()}


def _trl(run: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Run TRL's trainer with its own collator, which applies the chat template and the processor to each batch."""
    from datasets import Dataset, Sequence
    from datasets import Image as ImageFeature
    from transformers import AutoProcessor

    from xft.data.images.reading import open_image, read_pixels
    from xft.models.vision.llava import LlavaPartsConfig

    folder = LlavaPartsConfig(LANGUAGE, vision=VISION).resolve_source().base
    figures: dict[str, Any] = {"tokens": [], "seconds": []}
    rows = read_lines(run.parent / "rows.jsonl")
    for row in rows:
        # TRL puts the images in front of the first question by itself.
        row["messages"][0]["content"] = row["messages"][0]["content"].removeprefix("<image>\n")
        row["images"] = [read_pixels(open_image(path, Path(), "image")) for path in row["images"]]
    trl: Any = import_module("trl")
    trainer: Any = trl.SFTTrainer(
        model=str(folder),
        args=_sft_config(run, arguments, trl),
        train_dataset=Dataset.from_list(rows).cast_column("images", Sequence(ImageFeature())),
        processing_class=AutoProcessor.from_pretrained(folder),
        peft_config=trl_lora(r".*language_model.*\.(q|k|v|o|gate|up|down)_proj"),
        callbacks=[trl_watch(arguments.clock, figures)],
    )
    count_tokens(trainer, figures)
    trainer.train()
    return figures


def _sft_config(run: Path, arguments: argparse.Namespace, trl: Any) -> Any:
    """Return arguments of TRL's trainer that match the run of xft."""
    return trl.SFTConfig(
        output_dir=str(run / "trl"), model_init_kwargs={"dtype": "float32"}, num_train_epochs=1, max_length=None,
        per_device_train_batch_size=arguments.batch, learning_rate=1e-4, lr_scheduler_type="constant",
        max_grad_norm=1.0, gradient_checkpointing=False, use_cpu=True, bf16=False, logging_steps=1,
        save_strategy="no", report_to=[], disable_tqdm=True,
    )  # fmt: skip


if __name__ == "__main__":
    main()

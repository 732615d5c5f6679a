"""Measure how fast rows with images are prepared: headers and digests of the files, and tokens, but no pixels.

    python benchmarks/bench_image_rows.py                      # 10,000 rows with a JPEG each, a minute on two cores
    python benchmarks/bench_image_rows.py --processor qwen2_5_vl --rows 2000 --workers 1 --profile

Writes different JPEG files of about 100 KB, in 40 sizes up to 640x480, and a question and an answer about each in the format
of LLaVA. `llava` has 576 tokens for an image (CLIP ViT-L/14-336), `qwen2_5_vl` one for 28x28 pixels. Prints rows per second of
wall-clock time; and rows per second of CPU time, times the number of workers, which other processes disturb less.
"""

import argparse
import cProfile
import json
import pstats
import random
import resource
import shutil
import sys
import tempfile
import time
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import transformers
from PIL import Image

from xft.compat.processors import without_video
from xft.data import InstructionData, formats
from xft.models import CausalLMConfig
from xft.models.vision.processor import VisionProcessor
from xft.templates import ChatTemplate

TOKENIZER = "xft://smollm2-135m-instruct"
SIZES = 40


def write_rows(folder: Path, count: int) -> Path:
    """Write pictures and rows about them. Returns the file of the rows."""
    generator, choose = np.random.default_rng(0), random.Random(0)
    pictures = []
    for _ in range(SIZES):
        coarse = generator.integers(
            0, 256, (choose.randint(40, 60), choose.randint(50, 80), 3), dtype=np.uint8
        )
        picture = Image.fromarray(coarse).resize((8 * coarse.shape[1], 8 * coarse.shape[0]))
        buffer = BytesIO()
        picture.save(buffer, "JPEG", quality=95)
        pictures.append(buffer.getvalue())
    words = [
        "a",
        "cat",
        "sits",
        "on",
        "the",
        "mat",
        "and",
        "looks",
        "at",
        "what",
        "is",
        "in",
        "the",
        "bowl",
        "that",
        "nobody",
        "has",
        "filled",
        "today",
    ]
    path = folder / "rows.json"
    rows = []
    for number in range(count):
        data = pictures[number % SIZES]
        # A comment makes each file another one.
        comment = number.to_bytes(4, "big")
        (folder / f"{number}.jpg").write_bytes(data[:2] + b"\xff\xfe\x00\x06" + comment + data[2:])
        question, answer = (" ".join(choose.choices(words, k=length)) for length in (12, 40))
        turns = [{"from": "human", "value": f"<image>\n{question}?"}, {"from": "gpt", "value": answer}]
        rows.append({"id": str(number), "image": f"{number}.jpg", "conversations": turns})
    path.write_text(json.dumps(rows), encoding="utf-8")
    return path


def make_processor(folder: Path, kind: str, tokenizer: Any) -> VisionProcessor:
    """Save a processor of a family with published sizes, and open it."""
    if kind == "llava":
        tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
        side = {"height": 336, "width": 336}
        images: Any = transformers.CLIPImageProcessor(size={"shortest_edge": 336}, crop_size=side)
        config: Any = transformers.LlavaConfig()
        processor: Any = transformers.LlavaProcessor(
            images,
            tokenizer,
            patch_size=14,
            vision_feature_select_strategy="default",
            image_token="<image>",
            num_additional_image_tokens=1,
        )
    else:
        names = ("image_pad", "video_pad", "vision_start", "vision_end")
        tokenizer.add_special_tokens({"additional_special_tokens": [f"<|{name}|>" for name in names]})
        config = transformers.Qwen2_5_VLConfig()
        processor = without_video(transformers.Qwen2_5_VLProcessor)(
            transformers.Qwen2VLImageProcessor(), tokenizer
        )
    config.save_pretrained(folder)
    processor.save_pretrained(folder)
    return VisionProcessor(str(folder), config, tokenizer)


def cpu_seconds() -> float:
    """Return the CPU time of this process and of its workers that have ended."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def main() -> None:
    """Measure, and print the result."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--processor", choices=("llava", "qwen2_5_vl"), default="llava")
    parser.add_argument(
        "--profile", action="store_true", help="print the slowest functions; with --workers 1"
    )
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp())
    try:
        rows = write_rows(folder, arguments.rows)
        size = sum(file.stat().st_size for file in folder.glob("*.jpg"))
        tokenizer = CausalLMConfig(TOKENIZER).load_tokenizer()
        processor = make_processor(folder / "model", arguments.processor, tokenizer)
        template = ChatTemplate().bind(tokenizer)
        data = InstructionData(
            str(rows),
            format=formats.llava,
            max_length=8192,
            num_workers=arguments.workers,
            cache_dir=str(folder / "cache"),
        )
        profile = cProfile.Profile(time.process_time) if arguments.profile else None
        wall, cpu = time.perf_counter(), cpu_seconds()
        if profile is None:
            prepared = data.prepare(tokenizer, template, processor)
        else:
            prepared = profile.runcall(data.prepare, tokenizer, template, processor)
        wall, cpu = time.perf_counter() - wall, cpu_seconds() - cpu
    finally:
        shutil.rmtree(folder)
    images = prepared.report.images
    rate = arguments.workers * arguments.rows / cpu
    print(
        f"{arguments.rows:,} rows, {size / 1e6:,.0f} MB of JPEG, {images['image_tokens']:,} image tokens: {wall:.1f} s, "
        f"{arguments.rows / wall:,.0f} rows/s; {cpu:.1f} s of CPU, {rate:,.0f} rows/s of CPU time on {arguments.workers} cores"
    )
    if profile is not None:
        pstats.Stats(profile, stream=sys.stdout).sort_stats("tottime").print_stats(30)


if __name__ == "__main__":
    main()

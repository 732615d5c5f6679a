"""Compute the memory of the shipped models, and write it to their files and to the table of docs/models.md.

    python benchmarks/model_memory.py              # all models: about 3 minutes
    python benchmarks/model_memory.py qwen3_8b     # print the rows of some

The models are built on the meta device from the sizes in ``configs/_base_/models``; nothing is downloaded.
"""

import argparse
import ast
import sys
from pathlib import Path

from bench_table import write_between
from transformers import CONFIG_MAPPING
from transformers.utils import logging as transformers_logging

from xft.config import load_config
from xft.models import LoRA
from xft.models.memory_estimate import estimate_state_memory
from xft.utils.presets import preset_models, read_architecture, read_docstring

MARKS = ("<!-- models -->", "<!-- end of models -->")
PAGE = Path(__file__).resolve().parents[1] / "docs" / "models.md"
FULL_BYTES = 16
"""Weight, gradient and two numbers of AdamW, in fp32."""
HEADER = [
    "| config | model | license | parameters | QLoRA | LoRA | full |",
    "|---|---|---|--:|--:|--:|--:|",
]


def describe(name: str, file: Path) -> tuple[str, str]:
    """Return the docstring and the row of a model."""
    title, license_name = read_docstring(file).split(". ")[:2]
    fields = read_architecture(file)
    config = CONFIG_MAPPING[fields.pop("model_type")](**fields)
    qlora, lora = (
        estimate_state_memory(
            config, LoRA(r=load_config(f"{name}_{method}")["adapter"]["r"]), method == "qlora"
        )
        for method in ("qlora", "lora")
    )
    count = f"{lora.num_parameters / 1e9:.3g} B"
    sizes = [format_gb(size) for size in (qlora.total, lora.total, FULL_BYTES * lora.num_parameters)]
    memory = ", ".join(
        f"{method} {size}" for method, size in zip(("QLoRA", "LoRA", "full"), sizes, strict=True)
    )
    docstring = (
        f"{title}. {license_name.rstrip('.')}. {count} parameters. Memory without activations: {memory}."
    )
    return docstring, f"| `{name}` | {title} | {license_name.rstrip('.')} | {count} | {' | '.join(sizes)} |"


def format_gb(size: float) -> str:
    """Format bytes as GB with two significant digits, or whole GB."""
    gigabytes = size / 1e9
    return f"{gigabytes:.1f} GB" if gigabytes < 10 else f"{gigabytes:,.0f} GB"


def write_docstring(file: Path, docstring: str) -> None:
    """Replace the docstring of a file."""
    text = file.read_text(encoding="utf-8")
    end = ast.parse(text).body[0].end_lineno
    rest = text.splitlines(keepends=True)[end:]
    title, _, memory = docstring.partition(" Memory")
    file.write_text(f'"""{title}\nMemory{memory}"""\n' + "".join(rest), encoding="utf-8")


def main() -> int:
    """Print the rows, and write files and table if all models were computed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="*", help="names of shipped models; all by default")
    arguments = parser.parse_args()
    transformers_logging.set_verbosity_error()
    files = {name: file for name, file in preset_models().items() if read_architecture(file)}
    rows = []
    for name in arguments.models or files:
        docstring, row = describe(name, files[name])
        rows.append(row)
        print(row, flush=True)
        if not arguments.models:
            write_docstring(files[name], docstring)
    if not arguments.models:
        write_between(PAGE, "\n".join([*HEADER, *rows]), MARKS)
    return 0


if __name__ == "__main__":
    sys.exit(main())

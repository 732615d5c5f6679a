"""Write the model card of an export: base model, data, training settings and results."""

import html
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from xft.config import load_config
from xft.errors import CheckpointError, ConfigError
from xft.version import __version__

LIBRARIES = {"adapter": "peft", "model": "transformers", "gguf": "gguf"}
SHOWN_KEYS = {
    "objective": ("type",),
    "training": ("epochs", "max_steps", "micro_batch_size", "gradient_accumulation_steps", "max_grad_norm"),
    "optimizer": ("type", "lr", "weight_decay"),
    "lr_scheduler": ("type", "warmup_ratio", "warmup_steps"),
    "data": ("type", "format", "max_length", "packing", "val_split"),
    "template": ("type",),
}
"""Config keys shown in a card. All others are hidden, since a value may be a secret or a path."""
_MAX_PROMPTS = 10


def write_card(folder: Path, source: Path, base: str, kind: str, name: str) -> None:
    """Write the card of an export.

    Args:
        folder: of the export.
        source: exported run, checkpoint or model; its run folder is searched in the parent folders.
        base: base model, as written in the config.
        kind: key of ``LIBRARIES``.
        name: of the model.

    Raises:
        CheckpointError: a file of the run is malformed.
    """
    run = find_run(source)
    base_name = public_name(base)
    lines = [*_front_matter(base_name, kind), f"# {_escape(name)}", "", *_about(base_name, kind)]
    if run is not None:
        try:
            lines += [*_data(run), *_training(run), *_results(run)]
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise CheckpointError(
                f"{run}: cannot read the run for the model card ({type(error).__name__}: {error})",
                key=str(run),
            ) from error
    lines += _use(kind)
    (folder / "README.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def find_run(source: Path) -> Path | None:
    """Return the run folder that contains a saved model, if any."""
    path = source.resolve()
    folders = (path, *path.parents[:3])
    return next((folder for folder in folders if (folder / "data_report.json").is_file()), None)


def run_name(source: str) -> str:
    """Return the name of the run that contains ``source``, else the name of its own folder."""
    path = Path(source)
    return (find_run(path) or path.resolve()).name


def public_name(base: str) -> str:
    """Return the name of a model without local folders."""
    path = Path(base).expanduser()
    return path.name if path.is_absolute() or base.startswith((".", "~")) else base


def is_on_hub(base: str) -> bool:
    """Whether a name is a hub id rather than a local folder or an ``xft://`` model."""
    return (
        base.count("/") == 1 and "://" not in base and public_name(base) == base and not Path(base).exists()
    )


def _front_matter(base: str, kind: str) -> list[str]:
    model = [f"base_model: {json.dumps(base)}"] if is_on_hub(base) else []
    tags = ["  - xft", *(["  - lora"] if kind == "adapter" else [])]
    return [
        "---",
        f"library_name: {LIBRARIES[kind]}",
        *model,
        "pipeline_tag: text-generation",
        "tags:",
        *tags,
        "---",
        "",
    ]


def _about(base: str, kind: str) -> list[str]:
    noun = {"adapter": "A LoRA adapter for", "model": "A full model based on", "gguf": "A GGUF file of"}[
        kind
    ]
    return [f"{noun} `{base}`, fine-tuned with xft {__version__}.", ""]


def _data(run: Path) -> Iterator[str]:
    report = json.loads((run / "data_report.json").read_text(encoding="utf-8"))
    dropped = sum(report["rows_dropped"].values())
    yield from ["## Data", ""]
    yield (
        f"{report['rows_read']:,} rows read: {report['rows_train']:,} train, {report['rows_val']:,} val, "
        f"{dropped:,} dropped."
    )
    for name, split in report.get("splits", {}).items():
        if split.get("samples"):
            yield f"{name}: {split['tokens']:,} tokens, {split['target_tokens']:,} of them targets."
    yield ""


def _training(run: Path) -> Iterator[str]:
    file = run / "config.py"
    if not file.is_file():
        return
    yield from ["## Training", ""]
    try:
        config = load_config(file, safe_config=True)
    except ConfigError:
        yield from ["The config of the run contains custom components, which are not shown.", ""]
        return
    yield from ["| | |", "|---|---|"]
    for key, value in _shown_values(config):
        yield f"| {key} | {_escape(str(value))} |"
    yield ""


def _shown_values(config: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    adapter = config.get("adapter") or {}
    for key in ("type", "r", "lora_alpha", "lora_dropout"):
        if key in adapter:
            yield f"adapter.{key}", adapter[key]
    for part, keys in SHOWN_KEYS.items():
        values = config.get(part)
        if isinstance(values, str):
            yield part, values
        elif isinstance(values, Mapping):
            plain = ((key, values[key]) for key in keys if isinstance(values.get(key), str | int | float))
            yield from ((f"{part}.{key}", value) for key, value in plain)
    if "seed" in config:
        yield "seed", config["seed"]


def _results(run: Path) -> Iterator[str]:
    yield from ["## Results", ""]
    records = _lines(run / "metrics.jsonl")
    for split, names in (("val", ("loss", "perplexity")), ("generation", ("score",))):
        rows = [record for record in records if record.get("split") == split]
        if rows:
            first, last = rows[0], rows[-1]
            for name in names:
                if first.get(name) is not None and last.get(name) is not None:
                    total = f" of {last['num_scored']}" if split == "generation" else ""
                    label = "sample questions, score" if split == "generation" else f"validation {name}"
                    yield (
                        f"- {label}: {first[name]:.4g} at step {first['step']}, {last[name]:.4g} at step "
                        f"{last['step']}{total}"
                    )
    yield ""
    rows = _lines(run / "generations.jsonl")
    if rows:
        before = {row["question"]: row["answer"] for row in rows if row["step"] == rows[0]["step"]}
        yield from ["| question | before | after |", "|---|---|---|"]
        for row in [row for row in rows if row["step"] == rows[-1]["step"]][:_MAX_PROMPTS]:
            cells = (row["question"], before.get(row["question"], ""), row["answer"])
            yield "| " + " | ".join(_escape(cell) for cell in cells) + " |"
        yield ""


def _lines(file: Path) -> list[Any]:
    if not file.is_file():
        return []
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]


def _use(kind: str) -> list[str]:
    commands = {
        "adapter": ["xft chat .", "xft serve .", "xft convert . ../merged --merge"],
        "model": ["xft chat .", "xft serve ."],
        "gguf": ["ollama create my-model -f Modelfile", "llama-server --model model.gguf --jinja"],
    }[kind]
    note = (
        "The files contain the chat template and the stop tokens."
        if kind != "gguf"
        else "`model.gguf` contains the tokenizer, the chat template and the stop token."
    )
    return ["## Use", "", "In this folder:", "", "```bash", *commands, "```", "", note]


def _escape(text: str, length: int = 300) -> str:
    """Escape untrusted text for a table cell: no markup, line break or column separator."""
    short = " ".join(text.split())
    short = short if len(short) <= length else short[: length - 1] + "…"
    return html.escape(short, quote=False).translate({ord(char): f"\\{char}" for char in r"\`*_[]|#!"})

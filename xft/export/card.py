"""The model card: ``README.md`` of an export, with what was trained on what, and what came of it."""

import html
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from xft.config import load_config
from xft.errors import CheckpointError, ConfigError
from xft.version import __version__

KINDS = {"adapter": "peft", "model": "transformers", "gguf": "gguf"}
SHOWN = {
    "objective": ("type",),
    "training": ("epochs", "max_steps", "micro_batch_size", "gradient_accumulation_steps", "max_grad_norm"),
    "optimizer": ("type", "lr", "weight_decay"),
    "schedule": ("type", "warmup"),
    "data": ("type", "format", "max_length", "packing", "val"),
    "template": ("type",),
}
"""The keys of a config that are shown; nothing else of it, since a value may be a secret, or a path."""
_QUESTIONS = 10


def write_card(folder: Path, source: Path, base: str, kind: str, name: str) -> None:
    """Write the card of an export.

    Args:
        folder: the export.
        source: what was exported; the run it belongs to is looked for around it.
        base: what it was trained from, as the config had it.
        kind: of ``KINDS``.
        name: of the model.

    Raises:
        CheckpointError: a record of the run is broken.
    """
    run = run_of(source)
    shown = public_name(base)
    lines = [*_front(shown, kind), f"# {_text(name)}", "", *_about(shown, kind)]
    if run is not None:
        try:
            lines += [*_data(run), *_training(run), *_results(run)]
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise CheckpointError(
                f"{run}: cannot read the records of the run for the model card ({type(error).__name__}: {error})"
            ) from error
    lines += _use(kind)
    (folder / "README.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def run_of(source: Path) -> Path | None:
    """The run folder that a saved model lies in."""
    here = source.resolve()
    return next((each for each in (here, *here.parents[:3]) if (each / "data_report.json").is_file()), None)


def name_of_run(source: str) -> str:
    """What an export is called: as its run, or as the folder that was exported."""
    path = Path(source)
    return (run_of(path) or path.resolve()).name


def public_name(base: str) -> str:
    """The name of a model without the folders that it lies in on this machine."""
    path = Path(base).expanduser()
    return path.name if path.is_absolute() or base.startswith((".", "~")) else base


def is_on_hub(base: str) -> bool:
    """Whether a name is one of the hub, and not of a folder or of xft's own."""
    return (
        base.count("/") == 1 and "://" not in base and public_name(base) == base and not Path(base).exists()
    )


def _front(base: str, kind: str) -> list[str]:
    model = [f"base_model: {json.dumps(base)}"] if is_on_hub(base) else []
    tags = ["  - xft", *(["  - lora"] if kind == "adapter" else [])]
    return [
        "---",
        f"library_name: {KINDS[kind]}",
        *model,
        "pipeline_tag: text-generation",
        "tags:",
        *tags,
        "---",
        "",
    ]


def _about(base: str, kind: str) -> list[str]:
    what = {"adapter": "A LoRA adapter for", "model": "A whole model, from", "gguf": "A GGUF file, from"}[
        kind
    ]
    return [f"{what} `{base}`, fine-tuned with xft {__version__}.", ""]


def _data(run: Path) -> Iterator[str]:
    report = json.loads((run / "data_report.json").read_text(encoding="utf-8"))
    dropped = sum(report["rows_dropped"].values())
    yield from ["## Data", ""]
    yield (
        f"{report['rows_read']:,} rows read: {report['rows_trained']:,} trained on, {report['rows_validated']:,} "
        f"validated on, {dropped:,} dropped."
    )
    for name, each in report.get("splits", {}).items():
        if each.get("samples"):
            yield f"{name}: {each['tokens']:,} tokens, {each['target_tokens']:,} of them trained on or scored."
    yield ""


def _training(run: Path) -> Iterator[str]:
    file = run / "config.py"
    if not file.is_file():
        return
    yield from ["## Training", ""]
    try:
        config = load_config(file, safe_config=True)
    except ConfigError:
        yield from ["The config of the run has components of its own, which are not shown here.", ""]
        return
    yield from ["| | |", "|---|---|"]
    for key, value in _shown(config):
        yield f"| {key} | {_text(str(value))} |"
    yield ""


def _shown(config: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    adapter = config.get("adapter") or {}
    for key in ("type", "r", "lora_alpha", "lora_dropout"):
        if key in adapter:
            yield f"adapter.{key}", adapter[key]
    for part, keys in SHOWN.items():
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
    for split, names in (("val", ("loss", "perplexity")), ("questions", ("score",))):
        rows = [each for each in records if each.get("split") == split]
        if rows:
            first, last = rows[0], rows[-1]
            for name in names:
                if first.get(name) is not None and last.get(name) is not None:
                    of = f" of {last['questions']}" if split == "questions" else ""
                    what = "sample questions, score" if split == "questions" else f"validation {name}"
                    yield (
                        f"- {what}: {first[name]:.4g} at step {first['step']}, {last[name]:.4g} at step "
                        f"{last['step']}{of}"
                    )
    yield ""
    asked = _lines(run / "samples.jsonl")
    if asked:
        before = {each["question"]: each["answer"] for each in asked if each["step"] == asked[0]["step"]}
        yield from ["| question | before | after |", "|---|---|---|"]
        for each in [row for row in asked if row["step"] == asked[-1]["step"]][:_QUESTIONS]:
            cells = (each["question"], before.get(each["question"], ""), each["answer"])
            yield "| " + " | ".join(_text(cell) for cell in cells) + " |"
        yield ""


def _lines(file: Path) -> list[Any]:
    if not file.is_file():
        return []
    return [json.loads(each) for each in file.read_text(encoding="utf-8").splitlines() if each.strip()]


def _use(kind: str) -> list[str]:
    commands = {
        "adapter": ["xft chat .", "xft serve .", "xft convert . ../merged --merge"],
        "model": ["xft chat .", "xft serve ."],
        "gguf": ["ollama create my-model -f Modelfile", "llama-server --model model.gguf --jinja"],
    }[kind]
    note = (
        "The chat template and the tokens at which an answer ends are in the files."
        if kind != "gguf"
        else ("The tokenizer, the chat template and the token at which an answer ends are in `model.gguf`.")
    )
    return ["## Use", "", "In this folder:", "", "```bash", *commands, "```", "", note]


def _text(text: str, length: int = 300) -> str:
    """A stranger's text in a cell of a table: no markup, no line, no bar."""
    short = " ".join(text.split())
    short = short if len(short) <= length else short[: length - 1] + "…"
    return html.escape(short, quote=False).translate({ord(each): f"\\{each}" for each in r"\`*_[]|#!"})

"""Write the model card of a saved model: base model, data, method, training settings and results."""

import html
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from xft.config import load_config
from xft.errors import CheckpointError, ConfigError
from xft.export.vllm import vllm_note
from xft.utils.console import shorten
from xft.utils.generation_records import group_by_prompt, title_of
from xft.version import __version__

LIBRARIES = {"adapter": "peft", "model": "transformers", "gguf": "gguf"}
RELATIONS = {"adapter": "adapter", "model": "finetune", "gguf": "quantized"}
"""Relation to the base model, in the terms of the hub."""
SHOWN_KEYS = {
    "quantization": ("type", "double_quant"),
    "objective": ("type", "beta"),
    "training": ("epochs", "max_steps", "micro_batch_size", "gradient_accumulation_steps", "max_grad_norm"),
    "optimizer": ("type", "lr", "weight_decay"),
    "lr_scheduler": ("type", "warmup_ratio", "warmup_steps"),
    "data": ("type", "format", "max_length", "packing", "val_split"),
    "template": ("type",),
}
"""Config keys shown in a card. All others are hidden, since a value may be a secret or a path."""
_MAX_PROMPTS = 10


def write_card(
    folder: Path, source: Path, base: str, kind: str, name: str, step: int | None = None
) -> None:
    """Write the card of a saved model.

    Args:
        folder: of the export.
        source: exported run, checkpoint or model; its run folder is searched in the parent folders.
        base: base model, as written in the config.
        kind: key of ``LIBRARIES``.
        name: of the model.
        step: step of the weights; by default that of a checkpoint's folder, or the last one. Later results of the run
            belong to other weights and are left out.

    Raises:
        CheckpointError: a file of the run is malformed.
    """
    run = find_run(source)
    base_name = public_name(base)
    config = None if run is None else _read_config(run)
    try:
        step = _checkpoint_step(source) if step is None else step
        records = [] if run is None else _until(step, _lines(run / "metrics.jsonl"))
        lines = [
            *_front_matter(base_name, kind, name, config or {}, records),
            f"# {_escape(name)}",
            "",
            *_about(base_name, kind, config or {}),
        ]
        if run is not None:
            lines += [*_data(run, config or {}), *_training(run, config), *_results(run, records, step)]
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise CheckpointError(
            f"{run}: cannot read the run for the model card ({type(error).__name__}: {error})",
            key=str(run),
        ) from error
    lines += _use(kind, config or {})
    if kind == "adapter" and (folder / "adapter_config.json").is_file():
        lines += [f"\n{note}." for note in [vllm_note(folder)] if note is not None]
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


def _front_matter(
    base: str, kind: str, name: str, config: Mapping[str, Any], records: Sequence[Mapping[str, Any]]
) -> list[str]:
    """Return the metadata of the card in the format of the Hugging Face hub."""
    from huggingface_hub import EvalResult, ModelCardData

    task = "text-classification" if _is_reward_model(config) else "text-generation"
    metrics = [
        EvalResult(task, "validation", "validation split of the run", metric, value)
        for metric, value in _last(records, "val").items()
        if metric in ("loss", "perplexity")
    ]
    data = ModelCardData(
        base_model=base if is_on_hub(base) else None,
        base_model_relation=RELATIONS[kind] if is_on_hub(base) else None,
        datasets=[data.partition(":")[0] for data in _dataset_names(config) if "://" not in data] or None,
        eval_results=metrics or None,
        library_name=LIBRARIES[kind],
        model_name=name,
        pipeline_tag=task,
        tags=["xft", *filter(None, [_adapter_name(config), _objective_name(config)])],
    )
    return ["---", *data.to_yaml().splitlines(), "---", ""]


def _about(base: str, kind: str, config: Mapping[str, Any]) -> list[str]:
    noun = {"adapter": "A LoRA adapter for", "model": "A full model based on", "gguf": "A GGUF file of"}[
        kind
    ]
    method = ", ".join(filter(None, [_adapter_name(config), _objective_name(config)]))
    how = f" (method: {_escape(method)})" if method else ""
    return [f"{noun} `{base}`, fine-tuned with xft {__version__}{how}.", ""]


def _is_reward_model(config: Mapping[str, Any]) -> bool:
    return _type_of(config.get("model")) == "reward_model"


def _adapter_name(config: Mapping[str, Any]) -> str | None:
    if "model" not in config:
        return None
    name = _type_of(config.get("adapter")) or "full"
    return "qlora" if name == "lora" and config.get("quantization") is not None else name


def _objective_name(config: Mapping[str, Any]) -> str | None:
    if "model" not in config:
        return None
    return _type_of(config.get("objective")) or "sft"


def _type_of(section: object) -> str | None:
    value = section.get("type") if isinstance(section, Mapping) else section
    return value if isinstance(value, str) else None


def _dataset_names(config: Mapping[str, Any]) -> list[str]:
    """Return the names of data sets that are public; files of this machine are private."""
    data = config.get("data")
    parts = data.get("datasets", {"": data}) if isinstance(data, Mapping) else {}
    values = [part.get("path") for part in parts.values() if isinstance(part, Mapping)]
    names = [value.partition("#")[0] for value in values if isinstance(value, str)]
    return [name for name in names if name.startswith("xft://") or is_on_hub(name.partition(":")[0])]


def _data(run: Path, config: Mapping[str, Any]) -> Iterator[str]:
    report = json.loads((run / "data_report.json").read_text(encoding="utf-8"))
    dropped = sum(report["rows_dropped"].values())
    yield from ["## Data", ""]
    if names := _dataset_names(config):
        yield from [", ".join(f"`{_escape(name)}`" for name in names), ""]
    yield (
        f"{report['rows_read']:,} rows read: {report['rows_train']:,} train, {report['rows_val']:,} val, "
        f"{dropped:,} dropped."
    )
    for name, split in report.get("splits", {}).items():
        if split.get("samples"):
            yield f"{name}: {split['tokens']:,} tokens, {split['target_tokens']:,} of them targets."
    yield ""


def _read_config(run: Path) -> Mapping[str, Any] | None:
    """Return the config of a run; ``None`` if it has custom components, which are code."""
    file = run / "config.py"
    try:
        return load_config(file, safe_config=True) if file.is_file() else {}
    except ConfigError:
        return None


def _training(run: Path, config: Mapping[str, Any] | None) -> Iterator[str]:
    if not (run / "config.py").is_file():
        return
    yield from ["## Training", ""]
    if config is None:
        yield from ["The config of the run contains custom components, which are not shown.", ""]
        return
    yield from ["| | |", "|---|---|"]
    for key, value in _shown_values(config):
        yield f"| {key} | {_escape(str(value))} |"
    yield ""


def _shown_values(config: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    adapter = config.get("adapter") or {}
    for key in ("type", "r", "lora_alpha", "lora_dropout", "use_rslora", "use_dora", "init_lora_weights"):
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


def _last(records: Sequence[Mapping[str, Any]], split: str) -> Mapping[str, Any]:
    """Return the last record of a split, empty if there is none."""
    return next((record for record in reversed(records) if record.get("split") == split), {})


def _checkpoint_step(source: Path) -> int | None:
    """Return the step of a checkpoint that contains ``source``; ``None`` if there is none."""
    path = source.resolve()
    names = (
        part.name.removeprefix("step_")
        for part in (path, *path.parents)
        if part.parent.name == "checkpoints"
    )
    return next((int(name) for name in names if name.isdecimal()), None)


def _until(step: int | None, records: Sequence[Any]) -> list[Any]:
    """Return the records of the steps that the weights were trained for."""
    return [record for record in records if step is None or record["step"] <= step]


def _results(run: Path, records: Sequence[Mapping[str, Any]], step: int | None) -> Iterator[str]:
    yield from ["## Results", ""]
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
    rows = _until(step, _lines(run / "generations.jsonl"))
    if rows:
        yield from ["| question | before | after |", "|---|---|---|"]
        groups = group_by_prompt(rows).items()
        asked = [(key, group) for key, group in groups if group[-1]["step"] == rows[-1]["step"]]
        for (_, question, images, _), group in asked[:_MAX_PROMPTS]:
            before = group[0]["answer"] if group[0]["step"] == rows[0]["step"] else ""
            cells = (title_of(question, images), before, group[-1]["answer"])
            yield "| " + " | ".join(_escape(cell) for cell in cells) + " |"
        yield ""


def _lines(file: Path) -> list[Any]:
    if not file.is_file():
        return []
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]


def _use(kind: str, config: Mapping[str, Any]) -> list[str]:
    if _is_reward_model(config):
        return ["## Use", "", "In this folder:", "", "```bash", "xft score . ROWS.jsonl", "```"]
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
    return html.escape(shorten(text, length), quote=False).translate(
        {ord(char): f"\\{char}" for char in r"\`*_[]|#!"}
    )

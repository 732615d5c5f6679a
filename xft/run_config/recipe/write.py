"""Choose the values of a config, and write it with a comment for each choice."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PretrainedConfig

from xft.config.build import build_component
from xft.config.dump import dump_config, format_docstring, format_scalar
from xft.data.formats.detect_rules import Spec
from xft.errors import ConfigError, ModelError, XftError, did_you_mean
from xft.models.families import optional_field
from xft.models.loading import load_tokenizer
from xft.models.model_source import resolve_model_source
from xft.optim.schedulers import DEFAULT_WARMUP_RATIO
from xft.rollouts import RolloutConfig
from xft.run_config.config import SECTION_ORDER
from xft.run_config.recipe.method import (
    Method,
    choose_epochs,
    choose_learning_rate,
    choose_method,
    read_method,
)
from xft.run_config.recipe.model_facts import ModelFacts, inspect_model
from xft.run_config.recipe.row_facts import RowFacts, inspect_rows
from xft.templates import BoundTemplate, ChatTemplate
from xft.types import Tokenizer
from xft.utils.console import shorten
from xft.utils.paths import VAL_ROWS
from xft.utils.presets import preset_methods, runtime_text
from xft.utils.system import host_memory

MAX_LENGTH = 8192
"""Tokens of the longest rows that are kept by default."""
MAX_MICRO_BATCH = 8
HEADROOM = 0.9
"""Fraction of the memory that is planned for."""
FIXED_BYTES = 1.5e9
"""Memory of libraries, and of the logits of a chunk of tokens."""
LAYER_BYTES = 34
"""Activations of a layer for a token and a hidden unit, in bytes (Korthikanti et al. 2022,
https://arxiv.org/abs/2205.05198), of which one layer is kept at a time if layers are recomputed."""

SMALLER_WEIGHTS = {
    "full": "--method qlora, ",
    "lora": "4-bit weights (quantization=dict(type='nf4')), ",
    "qlora": "",
}
"""What takes less memory than the weights of a method."""


@dataclass(frozen=True)
class Recipe:
    """A config, and what it was made from.

    Attributes:
        name: name of model and method, for files and run folders.
        text: the config file.
        notes: lines for the terminal.
    """

    name: str
    text: str
    notes: tuple[str, ...]


def write_recipe(
    model: str,
    data: str,
    method: str | None = None,
    memory_gb: float | None = None,
    format: str | Mapping[str, Any] | None = None,
) -> Recipe:
    """Write a config for a model and rows.

    Args:
        model: a shipped model, a folder, a run, an adapter, or a name of the hub.
        data: as in ``data.path``.
        method: a shipped method; ``None`` chooses it by the rows and the machine.
        memory_gb: memory of a GPU of another machine; ``None`` plans for the device of this machine.
        format: as in ``data.format``; ``None`` chooses it by the rows.

    Raises:
        XftError: model, rows or method cannot be used.
    """
    methods = preset_methods()
    if method is not None and method not in methods:
        raise ConfigError(
            key="--method", got=method, expected="a method", fix=did_you_mean(method, methods)
        )
    facts = inspect_model(model)
    tokenizer, template, notes = _tokenizer(facts)
    kind = None if method is None else read_method(method).kind
    rows = inspect_rows(data, kind, tokenizer, template, format)
    on_gpu = memory_gb is not None or torch.cuda.is_available()
    memory = memory_gb * 1e9 if memory_gb is not None else _device_memory()
    choice = choose_method(method, rows.kind, on_gpu)
    length = choose_length(rows, facts.max_positions)
    micro, problem = choose_micro_batch(facts, choice, length, memory)
    if problem:
        notes.append(problem)
    sections = _model_sections(facts, choice) | _data_section(rows, length)
    sections |= _training_sections(rows, choice, facts.num_parameters, micro)
    title = f"{facts.section['path']}, {choice.name} on {data}. Written by xft."
    lines = [format_docstring(shorten(title, 100)), ""]
    lines += [line for key in SECTION_ORDER for line in sections.get(key, [])]
    return Recipe(f"{facts.name}_{choice.name}", "\n".join(lines) + "\n" + _runtime_text(), tuple(notes))


def _runtime_text() -> str:
    """Return the keys that every config has, with validation rows as sample questions."""
    return (
        runtime_text()
        .replace("eval_prompts = []", f'eval_prompts = "{VAL_ROWS}"')
        .replace('"val_rows", or', "a file, or")
    )


def choose_length(rows: RowFacts, max_positions: int | None) -> int:
    """Return ``data.max_length``: all rows fit, or all but the longest hundredth if these are much longer."""
    if rows.kind == "text":
        return min(2048, max_positions or 2048)
    longest, most = rows.percentile(100), rows.percentile(99)
    needed = longest if longest <= 1.5 * most else most
    if not rows.is_measured:
        needed = round(1.2 * needed)
    return min(max(-(-needed // 64) * 64, 128), MAX_LENGTH, max_positions or MAX_LENGTH)


def choose_micro_batch(facts: ModelFacts, method: Method, length: int, memory: float) -> tuple[int, str]:
    """Return the number of rows per forward pass that fits into memory, and a note if not even one does.

    Args:
        facts: the model.
        method: the method.
        length: tokens of a row.
        memory: bytes of the device.
    """
    state = facts.state_bytes(method)
    if state is None:
        return 1, f"the size of {facts.base} is not known: try the memory with --dry-run"
    if method.kind == "prompt":  # the passes of the loss have at most this number of tokens
        length = RolloutConfig().pack_length
    row = length * _token_bytes(facts.config, state) * (2 if method.kind == "preference" else 1)
    rest = HEADROOM * memory - state - FIXED_BYTES
    if rest < row:
        needed = (state + FIXED_BYTES + row) / HEADROOM / 1e9
        fix = f"{SMALLER_WEIGHTS[method.weights]}a smaller model, or several devices"
        return 1, f"about {needed:.0f} GB are needed, and there are {memory / 1e9:.0f} GB: use {fix}"
    if method.kind == "prompt":
        return method.rows_per_step, ""
    size = 1
    while size * 2 <= min(rest / row, MAX_MICRO_BATCH, method.rows_per_step):
        size *= 2
    return size, ""


def _token_bytes(config: PretrainedConfig | None, state: float) -> float:
    """Return the activations of a token if layers are recomputed: the input of each, and all of one."""
    if config is None:
        return 1e5 + state / 1e5
    text = config.get_text_config()
    hidden = optional_field(text, "hidden_size") or 4096
    layers = optional_field(text, "num_hidden_layers") or 32
    return float(hidden * (2 * layers + 2 * LAYER_BYTES))


def _device_memory() -> float:
    if torch.cuda.is_available():
        return float(torch.cuda.get_device_properties(0).total_memory)
    return float(host_memory()[0])


def _tokenizer(facts: ModelFacts) -> tuple[Tokenizer | None, BoundTemplate | None, list[str]]:
    """Load the tokenizer if it is on this machine. Nothing is downloaded."""
    path = resolve_model_source(facts.section["path"], "causal_lm").tokenizer
    if not path.startswith("xft://") and not Path(path).expanduser().is_dir():
        return (
            None,
            None,
            ["lengths are estimated from characters, since the tokenizer is not on this machine"],
        )
    try:
        tokenizer = load_tokenizer(path, False)
    except ModelError as error:
        return None, None, [f"lengths are estimated from characters: {error}"]
    try:
        template: ChatTemplate = build_component("template", facts.template)
        return tokenizer, template.bind(tokenizer), []
    except XftError as error:
        return tokenizer, None, [f"lengths are estimated from characters: {error}"]


def _model_sections(facts: ModelFacts, method: Method) -> dict[str, list[str]]:
    section = dict(facts.section)
    if method.weights == "full":
        section["dtype"] = "float32"
    adapter = facts.adapter_section(method)
    rank = "of the adapter that training continues" if facts.adapter else "raise r if the loss stays high"
    sections = {
        "model": _assign("model", section),
        "template": _assign(
            "template", facts.template, "that of the tokenizer" * (facts.template == "auto")
        ),
        "adapter": _assign("adapter", adapter, rank * (adapter is not None)),
    }
    if method.quantization is not None:
        comment = "base in 4 bits; None loads 16 bits"
        sections["quantization"] = _assign("quantization", method.quantization, comment)
    if method.weights == "full":
        strategy = {"type": "single_device", "mixed_precision": "auto"}
        comment = "weights in fp32; auto: matrix products in bf16 if the hardware has it"
        sections["strategy"] = _assign("strategy", strategy, comment)
    return sections


def _data_section(rows: RowFacts, length: int) -> dict[str, list[str]]:
    p50, p99, longest = (rows.percentile(percent) for percent in (50, 99, 100))
    how = "" if rows.is_measured else ", estimated from characters"
    tokens = f"tokens of a row: p50 {p50}, p99 {p99}, longest {longest}{how}"
    lines = [
        "data = dict(",
        f'    type="{rows.kind}",',
        f"    path={format_scalar(rows.path)},  # {'unknown number of' if rows.count is None else f'{rows.count:,}'} rows",
        f"    format={_format(rows.spec)},  # chosen by the columns",
        f"    max_length={length},  # {tokens}",
        ")",
    ]
    return {"data": lines}


def _training_sections(
    rows: RowFacts, method: Method, size: float | None, micro: int
) -> dict[str, list[str]]:
    about = "" if size is None else f" of {size / 1e9:.2g} B parameters"
    per_pass = (
        "prompts per step" if method.kind == "prompt" else "packed rows per forward pass, by the memory"
    )
    training = [
        "training = dict(",
        f"    epochs={choose_epochs(method, rows.count)},",
        f"    micro_batch_size={micro},  # {per_pass}",
        f"    gradient_accumulation_steps={max(1, method.rows_per_step // micro)},  # passes per step; reduced for few rows",
        ")",
    ]
    optimizer = {"type": "adamw", "lr": choose_learning_rate(method, size)}
    scheduler = {"type": "cosine", "warmup_ratio": DEFAULT_WARMUP_RATIO}
    return {
        **{key: _assign(key, value) for key, value in method.sections.items()},
        "training": training,
        "optimizer": _assign("optimizer", optimizer, f"for {method.weights}{about}"),
        "lr_scheduler": _assign("lr_scheduler", scheduler),
    }


def _format(spec: Spec) -> str:
    if len(spec) == 1:
        return format_scalar(spec["type"])
    return f"dict({', '.join(f'{key}={format_scalar(value)}' for key, value in spec.items())})"


def _assign(key: str, value: object, comment: str = "") -> list[str]:
    """Return the lines of an assignment, with a comment if it takes one line."""
    lines = dump_config({key: value}).splitlines()
    return [f"{lines[0]}  # {comment}"] if comment and len(lines) == 1 else lines

"""Format the summary of a run that is printed before the first step, on a screen of 80 x 24."""

import textwrap
import unicodedata
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

from xft.data import PreparedData
from xft.data.splits import AUTO_ROWS
from xft.models import Int8, LoadedModel
from xft.models.adapters.lora_init import num_frozen_elements
from xft.models.experts import describe_experts, is_fused
from xft.models.model_options import model_options
from xft.models.param_shapes import num_params
from xft.models.routing import describe_auxiliary_loss
from xft.models.stored_formats import DEQUANTIZED
from xft.reporting.data_summary import summarize_report
from xft.reporting.inspect_samples import SampleDecoder
from xft.run_config.config import RunConfig
from xft.run_config.plan import TrainingPlan
from xft.templates import SOURCES, BoundTemplate
from xft.utils import console

WIDTH, HEIGHT = 80, 24
LABEL = 10
"""Columns of the label in front of each line."""
MIN_SAMPLE_LINES, MAX_SAMPLE_LINES = 2, 6
"""Lines of the example, which fills the rest of the screen."""
_MIN_PIECE = 24
_MAX_MOVED = 12
"""Columns of the part of a word that is moved to the next line."""


def format_run_summary(
    recipe: RunConfig,
    loaded: LoadedModel,
    prepared: PreparedData,
    plan: TrainingPlan,
    template: BoundTemplate | None,
    work_dir: Path,
) -> list[str]:
    """Return lines on model, data, batching and output folder, with one example."""
    above = [
        *labeled("model", f"{recipe.model.path}, {_model_variant(recipe, loaded)}"),
        f"trainable params: {_param_counts(loaded)}",
        *_expert_lines(recipe, loaded),
        *_data_lines(recipe, loaded, prepared, plan),
        *_batching_lines(prepared, plan),
    ]
    below = [*labeled("run", _output_line(recipe, work_dir)), *_notes(prepared, plan)]
    if template is not None:
        above += labeled("template", _template_name(recipe, template))
    if not len(prepared.train):
        return above + below
    num_lines = min(max(HEIGHT - len(above) - len(below), MIN_SAMPLE_LINES), MAX_SAMPLE_LINES)
    return [*above, *format_example(prepared, loaded, num_lines), *below]


def labeled(label: str, text: str) -> list[str]:
    """Return a labeled text, wrapped to the width of the screen."""
    indent = " " * LABEL
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=f"{label:<{LABEL}}",
        subsequent_indent=indent,
        break_on_hyphens=False,
        break_long_words=False,
    )


def _data_lines(
    recipe: RunConfig, loaded: LoadedModel, prepared: PreparedData, plan: TrainingPlan
) -> list[str]:
    ledger = prepared.report
    train, val = ledger.splits["train"], ledger.splits["val"]
    dropped = "".join(f", {count:,} dropped ({reason})" for reason, count in ledger.rows_dropped.items())
    truncated = f", {ledger.rows_truncated:,} truncated" if ledger.rows_truncated else ""
    capacity = plan.batches.pack_length
    packed = f"packed to {capacity:,} (isolation measured)" if capacity else "not packed"
    if recipe.data.packing and not capacity:
        packed += f": {loaded.packing_problem}"
    rows = f"{ledger.rows_read:,} read: {ledger.rows_train:,} train, {ledger.rows_val:,} val"
    return [
        *labeled("rows", f"{rows}{dropped}{truncated}"),
        *labeled(
            "tokens",
            f"{train['tokens']:,} train ({train['target_tokens']:,} targets, {train['target_share']:.0%}), "
            f"{val['tokens']:,} val",
        ),
        *labeled(
            "lengths",
            f"p50 {train['length']['p50']:,}, p95 {train['length']['p95']:,}, max {train['length']['max']:,} "
            f"(limit {recipe.data.max_length:,}); {packed}",
        ),
    ]


def _batching_lines(prepared: PreparedData, plan: TrainingPlan) -> list[str]:
    batches = plan.batches
    global_size = batches.micro_batch_size * batches.gradient_accumulation_steps * batches.world_size
    tokens = prepared.report.splits["train"]["tokens"] * batches.num_iterations / batches.steps_per_epoch
    epochs = f"{plan.num_steps / batches.steps_per_epoch:.3g}"
    ranks = f"{batches.world_size:,} rank{'s' * (batches.world_size != 1)}"
    return [
        *labeled("steps", f"{plan.num_steps:,} = {epochs} epochs × {batches.steps_per_epoch:,}"),
        *labeled(
            "batch",
            f"global {global_size} = micro {batches.micro_batch_size} × grad accum {batches.gradient_accumulation_steps} × {ranks}, "
            f"~{tokens:,.0f} tokens/step",
        ),
    ]


def _template_name(recipe: RunConfig, template: BoundTemplate) -> str:
    source = recipe.template.source
    custom = "custom (from the config)"
    name = next((name for name, known in SOURCES.items() if known == source), custom)
    date = "; renders the current date, fixed at data preparation" if template.uses_current_date else ""
    return ("from the tokenizer" if source is None else name) + date


def _output_line(recipe: RunConfig, work_dir: Path) -> str:
    loggers = [name for name in recipe.loggers if name != "jsonl"]
    return f"{work_dir}; also logging to {', '.join(loggers)}" if loggers else str(work_dir)


def _notes(prepared: PreparedData, plan: TrainingPlan) -> list[str]:
    notes = []
    if not len(prepared.val):
        notes += labeled("warning", "no validation split: overfitting will go unnoticed")
    elif prepared.report.rows_val < AUTO_ROWS:
        rows = f"{prepared.report.rows_val} row{'s' * (prepared.report.rows_val > 1)}"
        notes += labeled("note", f"validation on {rows}: its loss is noisy (data.val_split)")
    summary = summarize_report(prepared.report.to_dict())
    for count in summary.anomalies:
        notes += labeled("note", f"{count.count:,} rows {count.text}")
    for columns in summary.columns:
        notes += labeled("columns", columns)
    for note in plan.notes:
        notes += labeled("note", note)
    return notes


def _model_variant(recipe: RunConfig, loaded: LoadedModel) -> str:
    dtype = str(loaded.base.dtype).removeprefix("torch.")
    bits = f"base in {recipe.quantization.bits} bits, " if recipe.quantization is not None else ""
    checkpointing = (
        ", gradient checkpointing" if recipe.model.gradient_checkpointing in (True, "offload") else ""
    )
    if recipe.model.gradient_checkpointing == "offload" and loaded.base.device.type != "cpu":
        checkpointing += " with offload to host memory"
    compiled = ", compiled at the first step" if recipe.model.torch_compile else ""
    stored = model_options(loaded.base).stored_format
    if stored is not None:
        bits += f"dequantized from {stored}, " if stored in DEQUANTIZED else f"base stored in {stored}, "
    return f"{bits}{dtype} on {loaded.base.device}{checkpointing}{compiled}"


def _expert_lines(recipe: RunConfig, loaded: LoadedModel) -> list[str]:
    experts = describe_experts(loaded.base)
    if not experts:
        return []
    if isinstance(recipe.quantization, Int8):
        modules = [module for module in loaded.base.modules() if is_fused(module)]
        size = sum(param.nbytes for module in modules for param in module.parameters(recurse=False))
        experts += f"; {console.format_bytes(size)} of them not quantized (quantization='nf4' does)"
    return labeled("experts", f"{experts}; {describe_auxiliary_loss(loaded.base)}")


def _param_counts(loaded: LoadedModel) -> str:
    params = list(loaded.model.parameters())
    trainable = sum(num_params(param) for param in params if param.requires_grad)
    trainable -= num_frozen_elements(loaded.model)
    total = sum(num_params(param) for param in params)
    return f"{trainable:,} / {total:,} ({trainable / total:.2%})"


def format_example(prepared: PreparedData, loaded: LoadedModel, num_lines: int) -> list[str]:
    """Return the first training sample with targets highlighted; long spans are shortened.

    Args:
        prepared: the data.
        loaded: model whose tokenizer decodes the sample.
        num_lines: maximum number of lines.
    """
    image_ids = () if loaded.processor is None else loaded.processor.token_ids
    spans = SampleDecoder(loaded.tokenizer, image_ids).spans(prepared.train[0])
    pieces = [
        (is_target, console.escape_line("".join(span.text for span in group)))
        for is_target, group in groupby(spans, key=lambda span: span.is_target)
    ]
    width = WIDTH - LABEL
    begin, end = console.HIGHLIGHT
    # Highlight marks and wide characters at the end of a line take up some of the columns.
    texts = _truncate_to_width(
        [text for _, text in pieces], num_lines * (width - 4 - _MAX_MOVED) - 4 * len(pieces)
    )
    text = "".join(
        f"{begin}{text}{end}" if is_target else text
        for (is_target, _), text in zip(pieces, texts, strict=True)
    )
    label, indent = f"{'sample':<{LABEL}}", " " * LABEL
    return [(indent if index else label) + line for index, line in enumerate(_wrap(text, width))][
        :num_lines
    ]


def _truncate_to_width(texts: Sequence[str], columns: int) -> list[str]:
    """Shorten the longest texts in the middle until all texts fit into ``columns``."""
    shortened = list(texts)
    while (excess := sum(map(display_width, shortened)) - columns) > 0:
        index = max(range(len(shortened)), key=lambda index: len(shortened[index]))
        text = shortened[index]
        if len(text) <= _MIN_PIECE + 3:
            break
        keep = max(len(text) - excess - 3, _MIN_PIECE, len(text) // 2)
        tail = keep // 3
        shortened[index] = f"{text[: keep - tail]} … {text[-tail:]}"
    return shortened


def display_width(text: str) -> int:
    """Return the columns of a text in a terminal; highlight marks count as two, as without color."""
    return sum(_char_width(char) for char in text)


def _char_width(char: str) -> int:
    if char in console.HIGHLIGHT or unicodedata.east_asian_width(char) in "WF":
        return 2
    return 0 if unicodedata.combining(char) else 1


def _wrap(text: str, width: int) -> Iterator[str]:
    """Wrap a text behind a space near the end of a line, closing a highlight there and reopening it on the next."""
    begin, end = console.HIGHLIGHT
    line, highlighted = "", False
    for char in text:
        # An open highlight needs columns for its closing mark.
        needed = display_width(line) + _char_width(char) + 2 * (highlighted or char == begin)
        if needed > width and char != end:
            at = line.rfind(" ") + 1
            if display_width(line[at:]) > min(_MAX_MOVED, width // 3):
                at = len(line)
            head, tail = line[:at], line[at:]
            if head.rfind(begin) > head.rfind(end):
                head, tail = head + end, begin + tail
            # A highlight that was reopened before a space holds nothing.
            yield head.replace(begin + end, "")
            line = tail
        line += char
        highlighted = (highlighted or char == begin) and char != end
    yield line

"""What is said before the first step, on one screen of 80 columns and 24 lines."""

import textwrap
import unicodedata
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

from xft.data import Prepared
from xft.models import LoadedModel
from xft.models.adapters.lora_init import num_frozen_elements
from xft.models.param_shapes import num_params
from xft.reporting.data_summary import oddities
from xft.reporting.inspect_samples import Reader
from xft.run_config.config import Recipe
from xft.run_config.plan import TrainingPlan
from xft.templates import SOURCES, BoundTemplate
from xft.utils import console

WIDTH, HEIGHT = 80, 24
LABEL = 10
LEAST_SAMPLE, MOST_SAMPLE = 2, 6
"""Lines of the example: it gets what the rest leaves."""
_LEAST_PIECE = 24


def banner(
    recipe: Recipe,
    loaded: LoadedModel,
    prepared: Prepared,
    plan: TrainingPlan,
    template: BoundTemplate | None,
    work_dir: Path,
) -> list[str]:
    """Lines about model, data, portions and place, with one example of what is trained."""
    above = [
        *labelled("model", f"{recipe.model.path}, {_how(recipe, loaded)}"),
        *labelled("trained", _count(loaded)),
        *_data(recipe, prepared, plan),
        *_portions(prepared, plan),
    ]
    below = [*labelled("run", _place(recipe, work_dir)), *_notes(prepared, plan, template)]
    if template is not None:
        above += labelled("template", _template(recipe, template))
    if not len(prepared.train):
        return above + below
    room = min(max(HEIGHT - len(above) - len(below), LEAST_SAMPLE), MOST_SAMPLE)
    return [*above, *example(prepared, loaded, room), *below]


def labelled(label: str, text: str) -> list[str]:
    """A line, or several of them where it is long, below each other."""
    indent = " " * LABEL
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=f"{label:<{LABEL}}",
        subsequent_indent=indent,
        break_on_hyphens=False,
        break_long_words=False,
    )


def _data(recipe: Recipe, prepared: Prepared, plan: TrainingPlan) -> list[str]:
    ledger = prepared.ledger
    train, val = ledger.splits["train"], ledger.splits["val"]
    dropped = "".join(f", {count:,} dropped ({reason})" for reason, count in ledger.rows_dropped.items())
    cut = f", {ledger.rows_truncated:,} cut to length" if ledger.rows_truncated else ""
    capacity = plan.batches.capacity
    packed = f"packed into rows of {capacity:,} tokens" if capacity else "not packed"
    return [
        *labelled(
            "rows",
            f"{ledger.rows_read:,} read = {ledger.rows_train:,} to train on + {ledger.rows_val:,} to "
            f"validate on{dropped}{cut}",
        ),
        *labelled(
            "tokens",
            f"{train['tokens']:,} in training, {train['target_tokens']:,} of them trained "
            f"({train['target_share']:.0%}); {val['tokens']:,} in validation",
        ),
        *labelled(
            "lengths",
            f"p50 {train['length']['p50']:,}, p95 {train['length']['p95']:,}, longest {train['length']['max']:,} "
            f"of {recipe.data.max_length:,}; {packed}",
        ),
    ]


def _portions(prepared: Prepared, plan: TrainingPlan) -> list[str]:
    batches = plan.batches
    rows = batches.batch_size * batches.accumulation * batches.world_size
    tokens = prepared.ledger.splits["train"]["tokens"] / batches.steps_per_epoch
    epochs = f"{plan.num_steps / batches.steps_per_epoch:.3g}"
    return [
        *labelled("steps", f"{plan.num_steps:,} = {epochs} epochs × {batches.steps_per_epoch:,}"),
        *labelled(
            "batch",
            f"{_counted(rows, 'row')} a step = {batches.batch_size} at once × {batches.accumulation} accumulated × "
            f"{_counted(batches.world_size, 'rank')}, about {tokens:,.0f} tokens",
        ),
    ]


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'s' if count != 1 else ''}"


def _template(recipe: Recipe, template: BoundTemplate) -> str:
    source = recipe.template.source
    name = next((name for name, each in SOURCES.items() if each == source), "one of the config's")
    dated = (
        "; it writes the date, and the data has that of its preparation"
        if template.uses_current_date
        else ""
    )
    return ("the tokenizer's own" if source is None else name) + dated


def _place(recipe: Recipe, work_dir: Path) -> str:
    others = [name for name in recipe.loggers if name != "jsonl"]
    also = f"; figures also go to {', '.join(others)}" if others else ""
    return f"{work_dir}{also}"


def _notes(prepared: Prepared, plan: TrainingPlan, template: BoundTemplate | None) -> list[str]:
    notes = []
    if not len(prepared.val):
        notes += labelled(
            "warning", "no validation: nothing will say when the model begins to learn by heart"
        )
    for count, phrase in oddities(prepared.ledger):
        notes += labelled("note", f"{count:,} rows {phrase}")
    for each in plan.notes:
        notes += labelled("note", each)
    return notes


def _how(recipe: Recipe, loaded: LoadedModel) -> str:
    dtype = str(loaded.base.dtype).removeprefix("torch.")
    bits = f"base in {recipe.quantization.bits} bits, " if recipe.quantization is not None else ""
    checkpointing = ", gradient checkpointing" if recipe.model.gradient_checkpointing is True else ""
    return f"{bits}{dtype} on {loaded.base.device}{checkpointing}"


def _count(loaded: LoadedModel) -> str:
    trained = sum(num_params(each) for each in loaded.model.parameters() if each.requires_grad)
    trained -= num_frozen_elements(loaded.model)
    total = sum(num_params(each) for each in loaded.model.parameters())
    return f"{trained:,} of {total:,} weights ({trained / total:.2%})"


def example(prepared: Prepared, loaded: LoadedModel, lines: int) -> list[str]:
    """The first sample as the model will see it, what is trained in marks; long stretches are cut short.

    Args:
        prepared: the data.
        loaded: for its tokenizer.
        lines: how many lines it may take.
    """
    runs = Reader(loaded.tokenizer).runs(prepared.train[0])
    pieces = [
        (trained, _shown("".join(each.text for each in group)))
        for trained, group in groupby(runs, key=lambda each: each.trained)
    ]
    width = WIDTH - LABEL
    begin, end = console.HIGHLIGHT
    # Marks, and wide characters that find no room at the end of a line, take some of it.
    texts = _fit([text for _, text in pieces], lines * (width - 4) - 4 * len(pieces))
    joined = "".join(
        f"{begin}{text}{end}" if trained else text for (trained, _), text in zip(pieces, texts, strict=True)
    )
    label, indent = f"{'sample':<{LABEL}}", " " * LABEL
    return [(indent if at else label) + each for at, each in enumerate(_cut(joined, width))][:lines]


def _shown(text: str) -> str:
    return console.escape_control_chars(text).replace("\n", "⏎").replace("\t", "→")


def _fit(texts: Sequence[str], room: int) -> list[str]:
    """Cut the longest of some texts in the middle, until all of them have room."""
    out = list(texts)
    while (over := sum(map(columns, out)) - room) > 0:
        at = max(range(len(out)), key=lambda each: len(out[each]))
        keep = max(len(out[at]) - over - 3, _LEAST_PIECE, len(out[at]) // 2)
        if len(out[at]) <= _LEAST_PIECE + 3:
            break
        tail = keep // 3
        out[at] = f"{out[at][: keep - tail]} … {out[at][-tail:]}"
    return out


def columns(text: str) -> int:
    """How many columns of a terminal a text takes; marks count as they are without colour."""
    return sum(_column(each) for each in text)


def _column(character: str) -> int:
    if character in console.HIGHLIGHT or unicodedata.east_asian_width(character) in "WF":
        return 2
    return 0 if unicodedata.combining(character) else 1


def _cut(text: str, width: int) -> Iterator[str]:
    """Cut a text into lines. What is marked across a cut is marked on both lines."""
    begin, end = console.HIGHLIGHT
    line, used, marked = "", 0, False
    for character in text:
        size = _column(character)
        # What is opened must have room to be closed.
        if used + size + 2 * (marked or character == begin) > width and character != end:
            yield line + (end if marked else "")
            line, used = (begin, 2) if marked else ("", 0)
        line, used = line + character, used + size
        marked = (marked or character == begin) and character != end
    yield line

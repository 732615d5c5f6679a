"""Look at what the model will really see: trained tokens in colour, then the totals."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

from xft.config import build, check, load_config, parse_overrides
from xft.data import Prepared
from xft.engine.recipe import Recipe
from xft.types import IGNORE_INDEX, Sample, Tokenizer

GREEN, GREY, END = "\033[32m", "\033[90m", "\033[0m"


def prepare(config: str, overrides: Sequence[str]) -> tuple[Prepared, Tokenizer, Recipe]:
    """Prepare the data of a config as training does, without the model's weights.

    Raises:
        XftError: something that the user can mend.
    """
    values = load_config(config, parse_overrides(overrides))
    check(values, Recipe, config)
    recipe = build(values, Recipe)
    recipe.data.locate()
    tokenizer = recipe.model.load_tokenizer()
    template = recipe.template.bind(tokenizer) if recipe.data.uses_template else None
    return recipe.data.prepare(tokenizer, template), tokenizer, recipe


def as_json(samples: Sequence[Sample]) -> Iterator[str]:
    """One JSON object a sample: ``input_ids``, ``labels``, ``text``."""
    for each in samples:
        values = {
            "input_ids": each.input_ids.tolist(),
            "labels": each.labels.tolist(),
            "text": each.text,
        }
        yield json.dumps(values, ensure_ascii=False)


def in_colour(sample: Sample, tokenizer: Tokenizer, colour: bool) -> str:
    """The tokens of a sample as text: what is trained in green, or in ``[[ ]]`` without colour."""
    begin, end, rest = (GREEN, END, GREY) if colour else ("[[", "]]", "")
    out = []
    for trained, ids in _runs(sample):
        text = str(tokenizer.decode(ids, skip_special_tokens=False))
        out.append(f"{begin}{text}{end}" if trained else f"{rest}{text}{END if colour else ''}")
    return "".join(out)


def _runs(sample: Sample) -> Iterator[tuple[bool, list[int]]]:
    """Neighbouring tokens that are all trained, or all not."""
    run: list[int] = []
    state = False
    for token, label in zip(sample.input_ids.tolist(), sample.labels.tolist(), strict=True):
        trained = label != IGNORE_INDEX
        if run and trained != state:
            yield state, run
            run = []
        state = trained
        run.append(token)
    if run:
        yield state, run


def totals(prepared: Prepared) -> list[str]:
    """The ledger in a few lines."""
    ledger = prepared.ledger
    lines = [f"{ledger.rows_read:>9,} rows read"]
    lines += [
        f"{ledger.rows_trained:>9,} to train on",
        f"{ledger.rows_validated:>9,} to validate on",
    ]
    lines += [f"{count:>9,} dropped: {reason}" for reason, count in ledger.rows_dropped.items()]
    if ledger.rows_truncated:
        lines.append(f"{ledger.rows_truncated:>9,} of these cut to length")
    for name, split in ledger.splits.items():
        lines.append(_split_line(name, split))
    return lines


def _split_line(name: str, split: dict[str, Any]) -> str:
    length = split["length"]
    return (
        f"{name:<6} {split['samples']:,} samples, {split['tokens']:,} tokens, {split['target_tokens']:,} trained "
        f"({split['target_share']:.0%}); length p50 {length['p50']}, p95 {length['p95']}, longest {length['max']}"
    )

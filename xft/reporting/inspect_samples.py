"""Look at what the model will really see: samples as text, trained tokens in colour."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Any

import numpy as np

from xft.config import build, check, load_config, parse_overrides
from xft.data import Prepared
from xft.run_config.config import Recipe
from xft.types import IGNORE_INDEX, Sample, Tokenizer
from xft.utils.console import GRAY, GREEN, RESET


@dataclass(frozen=True, slots=True)
class Run:
    """Neighbouring tokens of a sample that are alike.

    Attributes:
        trained: whether they are trained.
        special: whether it is one token of the template's: written by no ordinary text.
        text: what they say. The texts of all runs make the text of the sample.
        ids: their ids.
    """

    trained: bool
    special: bool
    text: str
    ids: list[int]


class Reader:
    """Turns samples back into text, run by run.

    A run is decoded behind the token before it: alone, its beginning would be taken for the
    beginning of a text, where some tokenizers write no space. Tokens are not decoded one by one,
    since a character may be several of them.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        # Added tokens of white space alone (as Gemma's "\n\n") are ordinary text.
        added: dict[int, Any] = getattr(tokenizer, "added_tokens_decoder", {})
        special = [token for token, each in added.items() if str(each).strip()]
        self._special = np.array(special, dtype=np.int32)
        self._heads: dict[int, str] = {}

    def decode(self, ids: list[int]) -> str:
        """The text of tokens, special ones included and nothing made prettier."""
        return str(
            self.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        )

    def runs(self, sample: Sample) -> list[Run]:
        """The runs of a sample, in order; each special token is one of its own."""
        out: list[Run] = []
        before: int | None = None
        for trained, special, ids in self._alike(sample):
            out.append(Run(trained, special, self._behind(before, ids), ids))
            before = ids[-1]
        return out

    def _alike(self, sample: Sample) -> Iterator[tuple[bool, bool, list[int]]]:
        trained = sample.labels != IGNORE_INDEX
        special = np.isin(sample.input_ids, self._special)
        # A run ends where either changes, and around every special token.
        change = (trained[1:] != trained[:-1]) | special[1:] | special[:-1]
        ends = [*(np.flatnonzero(change) + 1).tolist(), len(sample)]
        ids = sample.input_ids.tolist()
        for begin, end in pairwise([0, *ends]):
            if end > begin:
                yield bool(trained[begin]), bool(special[begin]), ids[begin:end]

    def _behind(self, before: int | None, ids: list[int]) -> str:
        if before is None:
            return self.decode(ids)
        if before not in self._heads:
            self._heads[before] = self.decode([before])
        head, text = self._heads[before], self.decode([before, *ids])
        return text[len(head) :] if text.startswith(head) else self.decode(ids)


def prepare(
    config: str, overrides: Sequence[str], safe_config: bool = False
) -> tuple[Prepared, Tokenizer, Recipe]:
    """Prepare the data of a config as training does, without the model's weights.

    Args:
        config: its file.
        overrides: ``KEY=VALUE`` texts.
        safe_config: run nothing of the config (see ``load_config``).

    Raises:
        XftError: something that the user can mend.
    """
    values = load_config(config, parse_overrides(overrides), safe_config)
    check(values, Recipe, config)
    recipe = build(values, Recipe)
    recipe.data.locate()
    tokenizer = recipe.model.load_tokenizer()
    template = recipe.template.bind(tokenizer) if recipe.data.uses_template else None
    return recipe.data.prepare(tokenizer, template), tokenizer, recipe


def side(sample: Sample, at: int, unit: int) -> str:
    """What a sample is to the others of its row: chosen or rejected, desirable or not; or nothing.

    Args:
        sample: the sample.
        at: its place in its row, from 0.
        unit: how many samples a row has, as in :class:`Prepared`.
    """
    if unit == 2:
        return ("chosen", "rejected")[at]
    if sample.desirable is None:
        return ""
    return "desirable" if sample.desirable else "undesirable"


def as_json(samples: Sequence[Sample], tokenizer: Tokenizer) -> Iterator[str]:
    """One JSON object a sample: ``input_ids``, ``labels``, ``text``."""
    reader = Reader(tokenizer)
    for each in samples:
        ids = each.input_ids.tolist()
        values = {"input_ids": ids, "labels": each.labels.tolist(), "text": reader.decode(ids)}
        yield json.dumps(values, ensure_ascii=False)


def in_colour(sample: Sample, tokenizer: Tokenizer, colour: bool) -> str:
    """The tokens of a sample as text: what is trained in green, or in ``[[ ]]`` without colour."""
    begin, end, rest = (GREEN, RESET, GRAY) if colour else ("[[", "]]", "")
    out = []
    for trained, runs in groupby(Reader(tokenizer).runs(sample), key=lambda each: each.trained):
        text = "".join(each.text for each in runs)
        out.append(f"{begin}{text}{end}" if trained else f"{rest}{text}{RESET if colour else ''}")
    return "".join(out)

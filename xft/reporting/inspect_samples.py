"""Decode encoded samples to text, with target tokens highlighted."""

import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from pathlib import Path

import numpy as np

from xft.config import build, check, load_config, parse_overrides
from xft.data import PreparedData
from xft.run_config.config import RunConfig
from xft.types import IGNORE_INDEX, Image, ImageProcessor, Sample, Tokenizer
from xft.utils.console import GRAY, GREEN, RESET, escape_control_chars


@dataclass(frozen=True, slots=True)
class TokenSpan:
    """Contiguous tokens of one kind.

    Attributes:
        is_target: whether the tokens are in the loss.
        is_special: whether the span is one added token, such as a delimiter of the chat template.
        text: decoded text. The texts of all spans add up to the text of the sample; of the tokens of an image, it is
            one of them and their number.
        ids: token ids.
    """

    is_target: bool
    is_special: bool
    text: str
    ids: list[int]


class SampleDecoder:
    """Decode samples to text, span by span.

    A span is decoded together with the token before it, since some tokenizers drop the space at the
    beginning of a text. Tokens are not decoded one by one, since a character may consist of several.

    Args:
        tokenizer: of the samples.
        image_ids: ids of the tokens that the model replaces by features of an image.
    """

    def __init__(self, tokenizer: Tokenizer, image_ids: Collection[int] = ()) -> None:
        self.tokenizer = tokenizer
        self._image_ids = np.array(sorted(image_ids), dtype=np.int32)
        # Added tokens of white space only, such as Gemma's "\n\n", are ordinary text.
        added = tokenizer.added_tokens_decoder.items()
        special = [token_id for token_id, token in added if str(token).strip()]
        self._special = np.array(special, dtype=np.int32)
        self._prefixes: dict[int, str] = {}

    def decode(self, ids: list[int]) -> str:
        """Return the exact text of tokens, including special tokens."""
        return str(
            self.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        )

    def spans(self, sample: Sample) -> list[TokenSpan]:
        """Return the spans of a sample; each special token is a span of its own."""
        spans: list[TokenSpan] = []
        previous: int | None = None
        for is_target, is_special, ids in self._split(sample):
            text = self._decode_after(previous, ids)
            if is_special and len(ids) > 1:
                text = f"{self.decode(ids[:1])}×{len(ids)}"
            spans.append(TokenSpan(is_target, is_special, text, ids))
            previous = ids[-1]
        return spans

    def _split(self, sample: Sample) -> Iterator[tuple[bool, bool, list[int]]]:
        is_target = sample.labels != IGNORE_INDEX
        is_special = np.isin(sample.input_ids, self._special)
        is_image = np.isin(sample.input_ids, self._image_ids)
        # Spans end where is_target changes, and at both sides of special tokens. Tokens of an image are one span.
        change = (is_target[1:] != is_target[:-1]) | is_special[1:] | is_special[:-1]
        change &= ~(is_image[1:] & is_image[:-1])
        ends = [*(np.flatnonzero(change) + 1).tolist(), len(sample)]
        ids = sample.input_ids.tolist()
        for begin, end in pairwise([0, *ends]):
            if end > begin:
                yield bool(is_target[begin]), bool(is_special[begin]), ids[begin:end]

    def _decode_after(self, previous: int | None, ids: list[int]) -> str:
        if previous is None:
            return self.decode(ids)
        if previous not in self._prefixes:
            self._prefixes[previous] = self.decode([previous])
        prefix, text = self._prefixes[previous], self.decode([previous, *ids])
        return text.removeprefix(prefix) if text.startswith(prefix) else self.decode(ids)


@dataclass(frozen=True)
class Inspection:
    """Prepared data, and the parts of a run that explain it.

    Attributes:
        data: the data.
        tokenizer: of the model.
        run_config: config of the run.
        processor: image processor of the model; ``None`` for a text model.
    """

    data: PreparedData
    tokenizer: Tokenizer
    run_config: RunConfig
    processor: ImageProcessor | None = None

    def decoder(self) -> SampleDecoder:
        """Return a decoder of the samples."""
        return SampleDecoder(self.tokenizer, () if self.processor is None else self.processor.token_ids)


def prepare(config: str, overrides: Sequence[str], safe_config: bool = False) -> Inspection:
    """Prepare the data of a config as in training, without loading the model.

    Args:
        config: path of the config.
        overrides: ``KEY=VALUE`` texts.
        safe_config: do not execute the config (see ``load_config``).

    Raises:
        XftError: the config or the data is invalid.
    """
    values = load_config(config, parse_overrides(overrides), safe_config)
    check(values, RunConfig, config)
    recipe = build(values, RunConfig)
    recipe.data.check_sources()
    tokenizer = recipe.model.load_tokenizer()
    template = recipe.template.bind(tokenizer) if recipe.data.uses_template else None
    processor = recipe.model.load_processor(tokenizer)
    return Inspection(recipe.data.prepare(tokenizer, template, processor), tokenizer, recipe, processor)


def pair_label(sample: Sample, index: int, samples_per_example: int) -> str:
    """Return ``chosen``, ``rejected``, ``desirable``, ``undesirable``, or an empty string.

    Args:
        sample: the sample.
        index: of the sample within its example, from 0.
        samples_per_example: 2 for preference pairs.
    """
    if samples_per_example == 2:
        return ("chosen", "rejected")[index]
    if sample.desirable is None:
        return ""
    return "desirable" if sample.desirable else "undesirable"


def as_json(samples: Sequence[Sample], tokenizer: Tokenizer) -> Iterator[str]:
    """Format each sample as a JSON object with ``input_ids``, ``labels`` and ``text``."""
    decoder = SampleDecoder(tokenizer)
    for sample in samples:
        ids = sample.input_ids.tolist()
        values = {"input_ids": ids, "labels": sample.labels.tolist(), "text": decoder.decode(ids)}
        yield json.dumps(values, ensure_ascii=False)


def image_label(image: Image, processor: ImageProcessor) -> str:
    """Return name, size and cost of an image, such as ``a.png, 640x480 pixels, 256 tokens``."""
    name = Path(image.path).name if image.path else f"{len(image.data):,} bytes of the row"
    return f"{name}, {image.width}x{image.height} pixels, {processor.count_tokens(image.size):,} tokens"


def colorize_sample(sample: Sample, decoder: SampleDecoder, color: bool) -> str:
    """Decode a sample with target tokens in green, or in ``[[ ]]`` without color; control characters are escaped."""
    begin, end, context = (GREEN, RESET, GRAY) if color else ("[[", "]]", "")
    parts = []
    for is_target, spans in groupby(decoder.spans(sample), key=lambda span: span.is_target):
        text = escape_control_chars("".join(span.text for span in spans))
        parts.append(f"{begin}{text}{end}" if is_target else f"{context}{text}{RESET if color else ''}")
    return "".join(parts)

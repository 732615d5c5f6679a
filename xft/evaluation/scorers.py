"""Score an answer against its reference, from 0 to 1."""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable

from xft.errors import ConfigError
from xft.evaluation.text_normalization import contains_phrase, count_words, tokenize
from xft.models.generation import Completion
from xft.registry import register

Scorer = Callable[[Completion, str], float]
"""Function ``(answer, reference) → score``. It raises for a reference that it cannot parse, for any answer."""

_SHAPE = re.compile(r"at least (\d+) bullets, at most (\d+) words")
_BULLET = re.compile(r"\s*(?:(?:[-*•–]|\d+[.)])\s+|\d+、\s*)(?=\S)")
_FULL_STOPS = ".。"


def _normalize(text: str) -> str:
    """Return lower-case text with single spaces, without quotation marks, and with full-width characters as ASCII (NFKC)."""
    plain = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(re.sub(r"[`\"'*“”‘’「」『』]", "", plain).split())


@register("scorer", "contains")
def contains(answer: Completion, reference: str) -> float:
    """Return 1 if the answer contains the reference as whole words; case and quotation marks are ignored.

    Alternatives are separated by ``|``: ``"Apache-2.0|Apache 2.0"``. Chinese and Japanese have no word boundaries; a
    reference matches anywhere except inside a Chinese number.
    """
    text = _normalize(answer.text)
    options = (option.strip() for option in _normalize(reference).split("|"))
    return float(any(option and contains_phrase(text, option) for option in options))


@register("scorer", "exact")
def exact(answer: Completion, reference: str) -> float:
    """Return 1 if the answer equals the reference; case, quotation marks and a final full stop are ignored."""
    prediction, target = (_normalize(text).rstrip(_FULL_STOPS) for text in (answer.text, reference))
    return float(prediction == target)


@register("scorer", "f1")
def f1(answer: Completion, reference: str) -> float:
    """Return the harmonic mean of precision and recall of words, as in SQuAD.

    Rajpurkar et al. 2016, https://arxiv.org/abs/1606.05250. Each Chinese or Japanese character is a word.
    """
    prediction, target = (Counter(tokenize(_normalize(text))) for text in (answer.text, reference))
    common = (prediction & target).total()
    return 2 * common / (prediction.total() + target.total()) if common else 0.0


@register("scorer", "structured")
def structured(answer: Completion, reference: str) -> float:
    """Return 1 if the answer has the shape that the reference states, and the model ended it.

    The reference reads ``at least 3 bullets, at most 40 words``. A bullet is a non-empty line that starts with ``-``,
    ``*``, ``•``, ``–``, ``1.``, ``1)`` or ``1、``; the mark is not a word, and a text that is repeated counts once. Each
    Chinese or Japanese character is a word. The content is not compared.

    Raises:
        ConfigError: The reference has another form.
    """
    shape = _SHAPE.fullmatch(reference)
    if shape is None:
        raise ConfigError(
            key="eval_prompts.reference",
            got=reference,
            expected="'at least 3 bullets, at most 40 words', or other numbers (scorer 'structured')",
        )
    num_bullets, num_words = measure_list(answer.text)
    fits = num_bullets >= int(shape[1]) and num_words <= int(shape[2])
    return float(answer.finish_reason == "stop" and fits)


def measure_list(text: str) -> tuple[int, int]:
    """Return the number of distinct bullets of a text, and that of its words without the marks of bullets."""
    lines = text.splitlines()
    items = {
        " ".join(line[match.end() :].casefold().split()) for line in lines if (match := _BULLET.match(line))
    }
    return len(items), sum(count_words(_BULLET.sub("", line, count=1)) for line in lines)

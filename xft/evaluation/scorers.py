"""Scorers: how near an answer comes to its reference, from 0 to 1."""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable

from xft.errors import ConfigError
from xft.evaluation.text_normalization import count_written, has_whole, words
from xft.models.generation import Completion
from xft.registry import register

Scorer = Callable[[Completion, str], float]
"""What an answer is worth, by its reference. A scorer refuses a reference that it cannot read, whatever
the answer is."""

_SHAPE = re.compile(r"at least (\d+) bullets, at most (\d+) words")
_BULLET = re.compile(r"\s*(?:(?:[-*•–]|\d+[.)])\s+|\d+、\s*)(?=\S)")
_FULL_STOPS = ".。"


def _normalise(text: str) -> str:
    """Lower case, one space between words, no quotation marks or backquotes; full-width letters, digits and marks
    as plain ones (NFKC)."""
    plain = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(re.sub(r"[`\"'*“”‘’「」『』]", "", plain).split())


@register("scorer", "contains")
def contains(answer: Completion, reference: str) -> float:
    """1 where the answer contains the reference, as whole words; case and quotes do not count. Chinese and
    Japanese, which part no words, may stand anywhere but within a Chinese number.

    Alternatives are parted by ``|``: ``"Apache-2.0|Apache 2.0"``.
    """
    said = _normalise(answer.text)
    for option in _normalise(reference).split("|"):
        wanted = option.strip()
        if wanted and has_whole(said, wanted):
            return 1.0
    return 0.0


@register("scorer", "exact")
def exact(answer: Completion, reference: str) -> float:
    """1 where the answer is the reference; case, quotes and a full stop at the end do not count."""
    said, wanted = (_normalise(each).rstrip(_FULL_STOPS) for each in (answer.text, reference))
    return float(said == wanted)


@register("scorer", "f1")
def f1(answer: Completion, reference: str) -> float:
    """Harmonic mean of the precision and recall of words, as SQuAD has it
    (Rajpurkar et al. 2016, https://arxiv.org/abs/1606.05250). Each Chinese or Japanese character is a word."""
    said, wanted = (Counter(words(_normalise(each))) for each in (answer.text, reference))
    common = (said & wanted).total()
    return 2 * common / (said.total() + wanted.total()) if common else 0.0


@register("scorer", "structured")
def structured(answer: Completion, reference: str) -> float:
    """1 where the answer has the shape that the reference says and was ended by the model itself.

    The reference reads ``at least 3 bullets, at most 40 words``. A bullet is a line that begins with
    ``-``, ``*``, ``•``, ``–``, ``1.``, ``1)`` or ``1、`` and says something; the marks are no words, and each
    Chinese or Japanese character is one. What is said does not count.

    Raises:
        ConfigError: the reference says something else.
    """
    shape = _SHAPE.fullmatch(reference)
    if shape is None:
        raise ConfigError(
            f"questions: got the reference {reference!r}, expected 'at least 3 bullets, at most 40 words', or "
            "other numbers (scorer 'structured')"
        )
    lines = answer.text.splitlines()
    bullets = [each for each in lines if _BULLET.match(each)]
    length = sum(count_written(_BULLET.sub("", each, count=1)) for each in lines)
    fits = len(bullets) >= int(shape[1]) and length <= int(shape[2])
    return float(answer.finish_reason == "stop" and fits)

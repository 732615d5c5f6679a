"""Scorers: how near an answer comes to its reference, from 0 to 1."""

import re
from collections import Counter

from xft.registry import register


def _normalise(text: str) -> str:
    """Lower case, one space between words, no quotation marks or backquotes."""
    return " ".join(re.sub(r"[`\"'*“”‘’]", "", text.casefold()).split())


@register("scorer", "contains")
def contains(answer: str, reference: str) -> float:
    """1 where the answer contains the reference, as whole words; case and quotes do not count.

    Alternatives are parted by ``|``: ``"Apache-2.0|Apache 2.0"``.
    """
    said = _normalise(answer)
    for option in reference.split("|"):
        wanted = _normalise(option)
        if wanted and re.search(rf"(?<![\w-]){re.escape(wanted)}(?![\w-])", said):
            return 1.0
    return 0.0


@register("scorer", "exact")
def exact(answer: str, reference: str) -> float:
    """1 where the answer is the reference; case, quotes and a full stop at the end do not count."""
    return float(_normalise(answer).rstrip(".") == _normalise(reference).rstrip("."))


@register("scorer", "f1")
def f1(answer: str, reference: str) -> float:
    """Harmonic mean of the precision and recall of words, as SQuAD has it
    (Rajpurkar et al. 2016, https://arxiv.org/abs/1606.05250)."""
    said, wanted = Counter(_words(answer)), Counter(_words(reference))
    common = (said & wanted).total()
    return 2 * common / (said.total() + wanted.total()) if common else 0.0


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", _normalise(text))

"""Split text into words, in scripts with and without spaces between words."""

import re

CJK = r"\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
"""Character class of Chinese and Japanese characters, for use inside ``[]``. Each character counts as a word."""
_WORD = re.compile(rf"[{CJK}]|[^\W_{CJK}]+")
_WRITTEN_WORD = re.compile(rf"[{CJK}]|[^\s{CJK}]*[^\W{CJK}][^\s{CJK}]*")
_WORD_CHARACTER = rf"(?:[^\W{CJK}]|-)"
_NUMERALS = "[零〇一二两三四五六七八九十百千万亿]"


def tokenize(text: str) -> list[str]:
    """Return runs of letters and digits, and each Chinese or Japanese character."""
    return _WORD.findall(text)


def count_words(text: str) -> int:
    """Count words as a person does: text between spaces, such as ``don't``, and each Chinese or Japanese character.

    Punctuation alone does not count.
    """
    return len(_WRITTEN_WORD.findall(text))


def contains_phrase(text: str, phrase: str) -> bool:
    """Return whether a text contains a phrase that starts and ends at word boundaries.

    A hyphen or a Chinese numeral next to the phrase is not a boundary.

    Args:
        text: text to search.
        phrase: non-empty phrase.
    """
    first, last = _inner_character(phrase[0]), _inner_character(phrase[-1])
    before, after = (f"(?<!{first})" if first else ""), (f"(?!{last})" if last else "")
    return re.search(before + re.escape(phrase) + after, text) is not None


def _inner_character(edge: str) -> str:
    """Return the pattern of characters that continue a word at ``edge``; empty if the script has no word boundaries."""
    if re.match(_NUMERALS, edge):
        return _NUMERALS
    return "" if re.match(f"[{CJK}]", edge) else _WORD_CHARACTER

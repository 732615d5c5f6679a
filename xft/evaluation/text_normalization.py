"""What a word is, in scripts with spaces between words and in those without."""

import re

SINGLE = r"\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
"""Inside ``[]``: Chinese and Japanese characters, each of which counts as a word, as nothing parts their words."""
_WORD = re.compile(rf"[{SINGLE}]|[^\W_{SINGLE}]+")
_WRITTEN = re.compile(rf"[{SINGLE}]|[^\s{SINGLE}]*[^\W{SINGLE}][^\s{SINGLE}]*")
_IN_A_WORD = rf"(?:[^\W{SINGLE}]|-)"
_NUMERALS = "[零〇一二两三四五六七八九十百千万亿]"


def words(text: str) -> list[str]:
    """Runs of letters and digits, and each Chinese or Japanese character."""
    return _WORD.findall(text)


def count_written(text: str) -> int:
    """Words as a person counts them: what stands between spaces, such as ``don't``, and each Chinese or Japanese
    character. Marks alone are none."""
    return len(_WRITTEN.findall(text))


def has_whole(text: str, wanted: str) -> bool:
    """Whether a text has another in it that neither begins nor ends within a word or a Chinese number, nor at a
    hyphen. ``wanted`` is not empty."""
    begin, end = _not_beside(wanted[0]), _not_beside(wanted[-1])
    before, after = (f"(?<!{begin})" if begin else ""), (f"(?!{end})" if end else "")
    return re.search(before + re.escape(wanted) + after, text) is not None


def _not_beside(edge: str) -> str:
    """What must not stand beside the first or last character of a word; nothing where words are not parted."""
    if re.match(_NUMERALS, edge):
        return _NUMERALS
    return "" if re.match(f"[{SINGLE}]", edge) else _IN_A_WORD

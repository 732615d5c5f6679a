"""What a word is, in scripts with spaces between words and in those without."""

import re

SINGLE = r"\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
"""Inside ``[]``: Chinese and Japanese characters, each of which counts as a word, as nothing parts their words."""
_WORD = re.compile(rf"[{SINGLE}]|[^\W_{SINGLE}]+")
_WRITTEN = re.compile(rf"[{SINGLE}]|[^\s{SINGLE}]*[^\W{SINGLE}][^\s{SINGLE}]*")
_IN_A_WORD = rf"(?:[^\W{SINGLE}]|-)"


def words(text: str) -> list[str]:
    """Runs of letters and digits, and each Chinese or Japanese character."""
    return _WORD.findall(text)


def count_written(text: str) -> int:
    """Words as a person counts them: what stands between spaces, such as ``don't``, and each Chinese or Japanese
    character. Marks alone are none."""
    return len(_WRITTEN.findall(text))


def has_whole(text: str, wanted: str) -> bool:
    """Whether a text has another in it that neither begins nor ends within a word, nor at a hyphen."""
    begin, end = (
        "" if re.match(f"[{SINGLE}]", edge) else around
        for edge, around in ((wanted[0], f"(?<!{_IN_A_WORD})"), (wanted[-1], f"(?!{_IN_A_WORD})"))
    )
    return re.search(begin + re.escape(wanted) + end, text) is not None

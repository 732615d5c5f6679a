"""Word-level differences between answers."""

import pytest

from xft.reporting.generations_table import Piece, diff_words


def marked(pieces: tuple[Piece, ...]) -> str:
    tags = {"": "{}", "del": "-{}-", "ins": "+{}+"}
    return "".join(tags[piece.change].format(piece.text) for piece in pieces)


@pytest.mark.parametrize(
    ("before", "after", "left", "right"),
    [
        (
            "the old file is here",
            "the new file was here",
            "the -old- file -is- here",
            "the +new+ file +was+ here",
        ),
        ("发票保存五年。", "发票保存十年。", "发票保存-五-年。", "发票保存+十+年。"),
        ("<b>", "<b> & more", "<b>", "<b>+ & more+"),
    ],
)
def test_diff_words_marks_changes(before: str, after: str, left: str, right: str) -> None:
    assert tuple(map(marked, diff_words(before, after))) == (left, right)

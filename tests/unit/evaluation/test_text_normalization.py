"""Words of a text, counted by hand, in scripts with and without spaces."""

import pytest

from xft.evaluation.text_normalization import contains_phrase, count_words, tokenize


@pytest.mark.parametrize(
    ("text", "tokens", "num_words"),
    [
        ("", [], 0),
        ("Hello, world_1!", ["Hello", "world", "1"], 2),
        ("don't stop - now", ["don", "t", "stop", "now"], 3),
        ("保存十年。", ["保", "存", "十", "年"], 4),
        ("使用LoRA微调", ["使", "用", "LoRA", "微", "调"], 5),
        ("カタカナ ok", ["カ", "タ", "カ", "ナ", "ok"], 5),
        ("… — !?", [], 0),
        ("Größe éa", ["Größe", "éa"], 2),
    ],
)
def test_tokenize_and_count_words_by_hand(text: str, tokens: list[str], num_words: int) -> None:
    assert tokenize(text) == tokens
    assert count_words(text) == num_words


@pytest.mark.parametrize(
    ("text", "phrase", "expected"),
    [
        ("the cat sat", "cat", True),
        ("the cats sat", "cat", False),
        ("concat", "cat", False),
        ("cat-like", "cat", False),
        ("(cat)", "cat", True),
        ("cat", "cat", True),
        ("a.b", "a.b", True),
        ("axb", "a.b", False),  # a phrase is no pattern
        ("the cat\nsat", "cat", True),
        ("我用电脑", "电脑", True),
        ("二十年", "十年", False),
        ("十年", "十年", True),
        ("五百", "百", False),
        ("-100", "100", False),
        ("x5", "5", False),
    ],
)
def test_contains_phrase_matches_at_word_boundaries_only(text: str, phrase: str, expected: bool) -> None:
    assert contains_phrase(text, phrase) is expected

"""Metrics of a file of answers, against hand computations."""

import math

import pytest

from xft.evaluation.text_metrics import RougeTokenizer, compare_texts


def test_rouge_is_what_the_formula_gives() -> None:
    """answer: the cat sat (3 words); reference: the cat sat on the mat (6).
    ROUGE-1: 3 common, P = 1, R = 1/2, F1 = 2/3.  ROUGE-2: 2 common of 2 and 5: F1 = 2·2/7.
    ROUGE-L: the longest common subsequence has 3 words: F1 = 2/3."""
    found = compare_texts(["The cat sat."], ["The cat sat on the mat."])
    assert found["rouge1"] == pytest.approx(2 / 3)
    assert found["rouge2"] == pytest.approx(4 / 7)
    assert found["rougeL"] == pytest.approx(2 / 3)


def test_bleu_is_what_the_formula_gives() -> None:
    """Four words of four right, reference of five: all precisions 1, brevity penalty exp(1 - 5/4)."""
    found = compare_texts(["a b c d"], ["a b c d e"])
    assert found["bleu"] == pytest.approx(100 * math.exp(1 - 5 / 4))


def test_means_are_over_all_answers() -> None:
    found = compare_texts(["Yes.", "no"], ["yes", "never ever"])
    assert found["exact_match"] == 0.5
    assert found["rouge1"] == 0.5


def test_words_of_other_scripts_count_too() -> None:
    assert RougeTokenizer().tokenize("Größe a北京, Москва's x_1") == [
        "grösse",
        "a",
        "北",
        "京",
        "москва",
        "s",
        "x",
        "1",
    ]
    found = compare_texts(["北京是中国的首都"], ["北京是中国的首都"])
    assert found["rougeL"] == 1
    assert found["bleu"] == pytest.approx(100)

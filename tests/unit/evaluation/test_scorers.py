"""Scorers against hand-counted scores."""

import pytest

from xft.errors import ConfigError
from xft.evaluation.scorers import contains, exact, f1, structured
from xft.models import Completion


def completion(text: str, stopped: bool = True) -> Completion:
    return Completion(text, "stop" if stopped else "length", len(text))


@pytest.mark.parametrize(
    ("answer", "reference", "score"),
    [
        ("Run `python tools/train.py` with a config.", "tools/train.py", 1.0),
        ("Add --resume to the command.", "--resume", 1.0),
        ("Add --resume-later to the command.", "--resume", 0.0),
        ("The label is -1000.", "-100", 0.0),
        ("It is APACHE-2.0.", "MIT|apache-2.0", 1.0),
        ("Five  percent", "5 %|five percent", 1.0),
        ("15 percent", "5 percent", 0.0),
        ("anything", "", 0.0),
        ("不可以，发票要保存十年。", "十年", 1.0),
        ("使用LoRA训练", "lora", 1.0),
        ("使用QLoRA训练", "lora", 0.0),
        ("要保存110年", "10年", 0.0),
        ("要保存10年以上", "10年", 1.0),
        ("カタカナで書く", "カタカナ", 1.0),
        ("年假每年十五天。", "15天｜十五天", 1.0),
        ("食堂中午１１：３０开门", "11:30", 1.0),
        ("保存二十年", "十年", 0.0),
        ("保存十年", "十年", 1.0),
    ],
)
def test_contains_matches_whole_words_only(answer: str, reference: str, score: float) -> None:
    assert contains(completion(answer), reference) == score


def test_exact_ignores_case_quotes_and_the_full_stop() -> None:
    assert exact(completion("'Paris'."), "paris") == 1.0
    assert exact(completion("Paris, France"), "paris") == 0.0
    assert exact(completion("「十年」。"), "十年") == 1.0


def test_f1_is_the_harmonic_mean_of_precision_and_recall() -> None:
    # precision 2 of 4 words, recall 2 of 3: 2 * 2 / (4 + 3)
    assert f1(completion("the cat sat down"), "a cat sat") == pytest.approx(4 / 7)
    assert f1(completion("nothing"), "in common") == 0.0
    # precision 2 of 4 characters, recall 2 of 2
    assert f1(completion("保存十年"), "十年") == pytest.approx(4 / 6)


SHAPE = "at least 2 bullets, at most 5 words"


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("- one two\n- three four five", 1.0),
        ("* one\n  • two three\n\n1. four\n2) five", 1.0),
        ("- one two\n- three four five six", 0.0),  # six words
        ("one\n- two\nthree", 0.0),  # one bullet
        ("1. One\n2.  one", 0.0),  # one bullet, twice
        ("-one\n-two", 0.0),  # a hyphen, not a bullet
        ("- one\n- \n-", 0.0),  # two that say nothing
        ("1.5 metres\n2.5 metres", 0.0),  # numbers
        ("one - two - three", 0.0),
        ("1. 十年\n2、二楼", 1.0),
        ("- 十年，十年\n- 二楼", 0.0),  # six characters
        ("- don't go\n- one – two", 1.0),  # a dash is no word
        ("", 0.0),
    ],
)
def test_structured_counts_bullets_and_words(text: str, score: float) -> None:
    assert structured(completion(text), SHAPE) == score
    assert structured(completion(text, stopped=False), SHAPE) == 0.0


@pytest.mark.parametrize("reference", ["3 bullets", "at least 3 bullets, at most 40 words!", "--resume"])
def test_structured_malformed_reference_raises(reference: str) -> None:
    with pytest.raises(ConfigError) as error:
        structured(completion("- a\n- b"), reference)
    assert (error.value.key, error.value.got) == ("eval_prompts.reference", reference)

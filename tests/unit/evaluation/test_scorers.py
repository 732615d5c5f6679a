"""Scorers against hand-counted scores, and the questions file."""

from pathlib import Path

import pytest

from xft.errors import ConfigError
from xft.evaluation import Asked, Question, read_questions
from xft.evaluation.questions import total_score
from xft.evaluation.scorers import contains, exact, f1


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
    ],
)
def test_contains_wants_the_reference_as_whole_words(answer: str, reference: str, score: float) -> None:
    assert contains(answer, reference) == score


def test_exact_overlooks_case_quotes_and_the_full_stop() -> None:
    assert exact("'Paris'.", "paris") == 1.0
    assert exact("Paris, France", "paris") == 0.0


def test_f1_is_the_harmonic_mean_of_precision_and_recall() -> None:
    # 2 of 4 words said are wanted, 2 of 3 wanted words are said: 2 * 2 / (4 + 3)
    assert f1("the cat sat down", "a cat sat") == pytest.approx(4 / 7)
    assert f1("nothing", "in common") == 0.0


def test_the_total_counts_only_what_has_a_reference() -> None:
    asked = [
        Asked(Question("a", "x"), "x", 1.0, True),
        Asked(Question("b", "y"), "z", 0.0, True),
        Asked(Question("c"), "w", None, False),
    ]
    assert total_score(asked) == (1.0, 2)
    assert Asked.from_dict(asked[0].to_dict()) == asked[0]


def test_questions_are_read_from_lists_and_files(tmp_path: Path) -> None:
    wanted = [Question("a"), Question("b", "x", "Be brief.")]
    items = ["a", {"question": "b", "reference": "x", "system": "Be brief."}]
    assert read_questions(items) == wanted
    file = tmp_path / "q.jsonl"
    file.write_text('"a"\n\n{"question": "b", "reference": "x", "system": "Be brief."}\n', encoding="utf-8")
    assert read_questions(str(file)) == wanted
    assert len(read_questions("xft://facts_questions.jsonl")) == 10


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"question": "a"}\n{"question": \n', "q.jsonl:2: broken JSON"),
        ('{"reference": "a"}\n', "number 1"),
        ('{"question": "a", "reference": 7}\n', "number 1"),
        ('{"question": "a", "answer": "b"}\n', "expected a text or"),
    ],
)
def test_what_is_no_question_is_refused(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "q.jsonl"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=message):
        read_questions(str(file))


def test_no_sample_question_of_the_demo_is_a_training_row() -> None:
    """The ten questions share no wording with the rows beyond single words and short phrases."""
    import json

    from xft import paths

    rows = paths.asset("facts.jsonl").read_text(encoding="utf-8").splitlines()
    trained = [json.loads(each)["instruction"].lower() for each in rows]
    assert len(trained) == 100
    assert len(set(trained)) == 100
    for question in read_questions("xft://facts_questions.jsonl"):
        words = question.question.lower().split()
        for start in range(len(words) - 5):
            phrase = " ".join(words[start : start + 6])
            assert not any(phrase in each for each in trained), phrase

"""Scorers against hand-counted scores, and the questions file."""

import json
import re
from pathlib import Path

import pytest

from xft.errors import ConfigError
from xft.evaluation import EvalPrompt, PromptResult, generate_answers, read_eval_prompts
from xft.evaluation.prompts import sum_scores
from xft.evaluation.scorers import contains, exact, f1, structured
from xft.models import Completion
from xft.utils import paths


def said(text: str, stopped: bool = True) -> Completion:
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
def test_contains_wants_the_reference_as_whole_words(answer: str, reference: str, score: float) -> None:
    assert contains(said(answer), reference) == score


def test_exact_overlooks_case_quotes_and_the_full_stop() -> None:
    assert exact(said("'Paris'."), "paris") == 1.0
    assert exact(said("Paris, France"), "paris") == 0.0
    assert exact(said("「十年」。"), "十年") == 1.0


def test_f1_is_the_harmonic_mean_of_precision_and_recall() -> None:
    # 2 of 4 words said are wanted, 2 of 3 wanted words are said: 2 * 2 / (4 + 3)
    assert f1(said("the cat sat down"), "a cat sat") == pytest.approx(4 / 7)
    assert f1(said("nothing"), "in common") == 0.0
    # 2 of 4 characters are wanted, 2 of 2 are said
    assert f1(said("保存十年"), "十年") == pytest.approx(4 / 6)


SHAPE = "at least 2 bullets, at most 5 words"
SHIPPED = "at least 3 bullets, at most 40 words"


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("- one two\n- three four five", 1.0),
        ("* one\n  • two three\n\n1. four\n2) five", 1.0),
        ("- one two\n- three four five six", 0.0),  # six words
        ("one\n- two\nthree", 0.0),  # one bullet
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
    assert structured(said(text), SHAPE) == score
    assert structured(said(text, stopped=False), SHAPE) == 0.0


@pytest.mark.parametrize("reference", ["3 bullets", "at least 3 bullets, at most 40 words!", "--resume"])
def test_structured_refuses_a_reference_that_is_no_shape(reference: str) -> None:
    with pytest.raises(ConfigError, match="expected 'at least 3 bullets, at most 40 words'"):
        structured(said("- a\n- b"), reference)


class _Parrot:
    """Says the same to every question, and stops."""

    def answer(self, conversations: list[object], max_new_tokens: int) -> list[Completion]:
        return [said("- a\n- b") for _ in conversations]


def test_a_question_may_have_a_scorer_of_its_own() -> None:
    questions = read_eval_prompts(
        [
            {"question": "a", "reference": SHAPE, "scorer": "structured"},
            {"question": "b", "reference": "- A\n- B"},
            {"question": "c", "reference": "b", "scorer": "contains"},
            "d",
        ]
    )
    asked = generate_answers(_Parrot(), questions, exact, 8)  # type: ignore[arg-type]
    assert [each.score for each in asked] == [1.0, 1.0, 1.0, None]
    asked = generate_answers(_Parrot(), questions, contains, 8)  # type: ignore[arg-type]
    assert [each.score for each in asked] == [1.0, 1.0, 1.0, None]


@pytest.mark.parametrize(
    ("question", "key", "got"),
    [
        ({"reference": "short", "scorer": "structured"}, "eval_prompts.reference", "short"),
        ({"scorer": "structured"}, "eval_prompts[0].reference", None),
        (
            {"reference": "x", "scorer": 3},
            "eval_prompts[0]",
            {"question": "a", "reference": "x", "scorer": 3},
        ),
    ],
)
def test_read_eval_prompts_invalid_scorer_or_reference_raises(
    question: dict[str, object], key: str, got: object
) -> None:
    with pytest.raises(ConfigError) as error:
        read_eval_prompts([{"question": "a", **question}])
    assert (error.value.key, error.value.got) == (key, got)


def test_read_eval_prompts_unknown_scorer_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'structured'"):
        read_eval_prompts([{"question": "a", "reference": "x", "scorer": "structure"}])


def test_sum_scores_skips_prompts_without_reference() -> None:
    results = [
        PromptResult(EvalPrompt("a", "x"), "x", 1.0, True),
        PromptResult(EvalPrompt("b", "y"), "z", 0.0, True),
        PromptResult(EvalPrompt("c"), "w", None, False),
    ]
    assert sum_scores(results) == (1.0, 2)
    assert PromptResult.from_dict(results[0].to_dict()) == results[0]


def test_read_eval_prompts_list_and_file_give_equal_prompts(tmp_path: Path) -> None:
    expected = [EvalPrompt("a"), EvalPrompt("b", "x", "Be brief.")]
    items = ["a", {"question": "b", "reference": "x", "system": "Be brief."}]
    assert read_eval_prompts(items) == expected
    file = tmp_path / "q.jsonl"
    file.write_text('"a"\n\n{"question": "b", "reference": "x", "system": "Be brief."}\n', encoding="utf-8")
    assert read_eval_prompts(str(file)) == expected
    assert len(read_eval_prompts("xft://facts_questions.jsonl")) == 10


@pytest.mark.parametrize(
    ("text", "key", "place"),
    [
        ('{"question": "a"}\n{"question": \n', "eval_prompts", "q.jsonl:2"),
        ('{"reference": "a"}\n', "eval_prompts[0]", ""),
        ('{"question": "a", "reference": 7}\n', "eval_prompts[0]", ""),
        ('"b"\n{"question": "a", "answer": "b"}\n', "eval_prompts[1]", ""),
    ],
)
def test_read_eval_prompts_malformed_entry_raises(tmp_path: Path, text: str, key: str, place: str) -> None:
    file = tmp_path / "q.jsonl"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as error:
        read_eval_prompts(str(file))
    assert error.value.key == key
    assert place in str(error.value)


@pytest.mark.parametrize(
    ("name", "column", "count"), [("facts", "instruction", 100), ("pairs", "prompt", 87)]
)
def test_no_sample_question_of_a_demonstration_is_a_training_row(
    name: str, column: str, count: int
) -> None:
    """The ten questions share no wording with the rows beyond single words and short phrases."""
    rows = paths.asset(f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    trained = [json.loads(each)[column].lower() for each in rows]
    assert len(trained) == len(set(trained)) == count
    questions = read_eval_prompts(f"xft://{name}_questions.jsonl")
    assert len(questions) == 10
    for question in questions:
        words = question.question.lower().split()
        for start in range(len(words) - 5):
            phrase = " ".join(words[start : start + 6])
            assert not any(phrase in each for each in trained), phrase


def test_topics_of_the_questions_stand_in_no_shipped_pair() -> None:
    topics = "chess tent photograph bird guitar plastic planet adopt cat cats knit swim sea birthday party"
    text = paths.asset("pairs.jsonl").read_text(encoding="utf-8").lower()
    questions = " ".join(each.question for each in read_eval_prompts("xft://pairs_questions.jsonl")).lower()
    for topic in topics.split():
        assert not re.search(rf"\b{topic}(s|ing|ting|ming)?\b", text), topic
    assert sum(topic in questions for topic in topics.split()) >= 14


def test_shipped_pairs_are_short_and_structured_beside_long_and_not() -> None:
    for question in read_eval_prompts("xft://pairs_questions.jsonl"):
        assert (question.scorer, question.reference) == ("structured", SHIPPED)
    for line in paths.asset("pairs.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        assert structured(said(row["chosen"]), SHIPPED) == 1.0, row["prompt"]
        assert structured(said(row["rejected"]), SHIPPED) == 0.0, row["prompt"]

"""Sample questions: config entries and files, scoring, and the shipped questions."""

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers import jinja_sources
from helpers.fake_images import FakeProcessor
from helpers.generators import PromptEchoGenerator, ScriptedGenerator
from helpers.pictures import encoded, picture

from xft.errors import ConfigError
from xft.evaluation import EvalPrompt, PromptResult, generate_answers, read_eval_prompts
from xft.evaluation.prompts import check_images, sum_scores
from xft.evaluation.scorers import contains, exact, structured
from xft.models import Completion
from xft.templates import ChatTemplate
from xft.types import IMAGE_PLACE
from xft.utils import paths

SHAPE = "at least 3 bullets, at most 40 words"
"""Reference of the shipped questions about style."""


def test_generate_answers_prompt_scorer_takes_precedence_over_the_default() -> None:
    prompts = read_eval_prompts(
        [
            {"question": "a", "reference": "at least 2 bullets, at most 5 words", "scorer": "structured"},
            {"question": "b", "reference": "- A\n- B"},
            {"question": "c", "reference": "b", "scorer": "contains"},
            {"question": "d", "reference": "b"},
            "e",
        ]
    )
    generator = ScriptedGenerator(lambda messages: "- a\n- b")
    exactly = generate_answers(generator, prompts, exact, 8)
    assert [result.score for result in exactly] == [1.0, 1.0, 1.0, 0.0, None]
    loosely = generate_answers(generator, prompts, contains, 8)
    assert [result.score for result in loosely] == [1.0, 1.0, 1.0, 1.0, None]
    assert generator.batch_sizes == [5, 5]


def test_generate_answers_batches_prompts_with_equal_template_variables(
    make_byte_tokenizer: Callable[..., Any],
) -> None:
    template = ChatTemplate(jinja_sources.OPENED_THOUGHT).bind(
        make_byte_tokenizer(specials=jinja_sources.SPECIALS)
    )

    quiet = {"question": "b", "chat_template_kwargs": {"enable_thinking": False}}
    prompts = read_eval_prompts(["a", quiet, "c", {**quiet, "question": "d"}])
    results = generate_answers(PromptEchoGenerator(template), prompts, exact, 8)
    assert [result.question.question for result in results] == ["a", "b", "c", "d"]
    assert [result.answer.endswith("</think>\n\n") for result in results] == [False, True, False, True]
    assert [PromptResult.from_dict(result.to_dict()) for result in results] == results


def test_questions_without_a_system_message_get_that_of_the_training() -> None:
    items = ["a", {"question": "b"}, {"question": "c", "system": "Own."}, {"question": "d", "system": ""}]
    items.append({"question": "e", "system": None})
    systems = [prompt.system for prompt in read_eval_prompts(items, "Be brief.")]
    assert systems == ["Be brief.", "Be brief.", "Own.", "", "Be brief."]
    assert [message.role for message in read_eval_prompts(items, "Be brief.")[3].conversation()] == ["user"]
    assert {prompt.system for prompt in read_eval_prompts(["a", {"question": "b"}])} == {None}


def test_read_eval_prompts_invalid_template_variable_raises() -> None:
    with pytest.raises(ConfigError) as error:
        read_eval_prompts([{"question": "a", "chat_template_kwargs": {"tools": []}}])
    assert error.value.key == "chat_template_kwargs.tools"


def test_generate_answers_cut_answer_is_not_stopped() -> None:
    generator = ScriptedGenerator(lambda messages: None if messages[-1].content == "long" else "short")
    results = generate_answers(generator, [EvalPrompt("long"), EvalPrompt("brief")], exact, 8)
    assert [(result.answer, result.stopped) for result in results] == [("cut", False), ("short", True)]


@pytest.mark.parametrize(("system", "roles"), [(None, ["user"]), ("", ["user"]), ("s", ["system", "user"])])
def test_conversation_has_a_system_message_if_the_prompt_has_one(
    system: str | None, roles: list[str]
) -> None:
    assert [message.role for message in EvalPrompt("a", system=system).conversation()] == roles


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
    with pytest.raises(ConfigError) as error:
        read_eval_prompts([{"question": "a", "reference": "x", "scorer": "structure"}])
    assert error.value.got == "structure"
    assert "'structured'" in str(error.value)


def test_sum_scores_skips_prompts_without_reference() -> None:
    results = [
        PromptResult(EvalPrompt("a", "x"), "x", 1.0, True),
        PromptResult(EvalPrompt("b", "y"), "z", 0.0, True),
        PromptResult(EvalPrompt("c"), "w", None, False),
    ]
    assert sum_scores(results) == (1.0, 2)


def test_prompt_result_to_dict_and_from_dict_are_inverse() -> None:
    result = PromptResult(EvalPrompt("a", "x", "s", "exact"), "x", 1.0, True)
    assert PromptResult.from_dict(json.loads(json.dumps(result.to_dict()))) == result


@pytest.mark.parametrize(
    ("content", "got"),
    [(None, "q.json"), (b'{"question": "a"}', "dict"), (b'["\xff"]', "q.json"), (b"[\n}", "q.json")],
)
def test_read_eval_prompts_unreadable_file_raises(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None, got: str
) -> None:
    monkeypatch.chdir(tmp_path)
    if content is not None:
        (tmp_path / "q.json").write_bytes(content)
    with pytest.raises(ConfigError) as error:
        read_eval_prompts("q.json")
    assert (error.value.key, error.value.got) == ("eval_prompts", got)


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
def test_shipped_questions_share_no_wording_with_the_training_rows(
    name: str, column: str, count: int
) -> None:
    """A phrase of six words is the shortest that counts as shared."""
    rows = paths.asset(f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    trained = [json.loads(row)[column].lower() for row in rows]
    assert len(trained) == len(set(trained)) == count
    questions = read_eval_prompts(f"xft://{name}_questions.jsonl")
    assert len(questions) == 10
    for question in questions:
        words = question.question.lower().split()
        for start in range(len(words) - 5):
            phrase = " ".join(words[start : start + 6])
            assert not any(phrase in row for row in trained), phrase


def test_shipped_pairs_have_no_topic_of_the_questions() -> None:
    topics = "chess tent photograph bird guitar plastic planet adopt cat cats knit swim sea birthday party"
    text = paths.asset("pairs.jsonl").read_text(encoding="utf-8").lower()
    questions = " ".join(
        prompt.question for prompt in read_eval_prompts("xft://pairs_questions.jsonl")
    ).lower()
    for topic in topics.split():
        assert not re.search(rf"\b{topic}(s|ing|ting|ming)?\b", text), topic
    assert sum(topic in questions for topic in topics.split()) >= 14


def test_shipped_pairs_chosen_has_the_shape_and_rejected_has_not() -> None:
    for question in read_eval_prompts("xft://pairs_questions.jsonl"):
        assert (question.scorer, question.reference) == ("structured", SHAPE)
    for line in paths.asset("pairs.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        assert structured(Completion(row["chosen"], "stop", 1), SHAPE) == 1.0, row["prompt"]
        assert structured(Completion(row["rejected"], "stop", 1), SHAPE) == 0.0, row["prompt"]


@pytest.mark.skipif(os.name != "posix", reason="the platform has no device files")
def test_read_eval_prompts_device_raises() -> None:
    with pytest.raises(ConfigError) as caught:
        read_eval_prompts("/dev/zero")
    assert (caught.value.key, caught.value.got) == ("eval_prompts", "/dev/zero")


def test_read_eval_prompts_nested_too_deep_raises(tmp_path: Path) -> None:
    (file := tmp_path / "a.json").write_text("[" * 100_000)
    with pytest.raises(ConfigError) as caught:
        read_eval_prompts(str(file))
    assert caught.value.key == "eval_prompts"


def write_picture(path: Path) -> str:
    """Write a picture, and return its path."""
    path.write_bytes(encoded(picture(20, 30)))
    return str(path)


def test_images_of_a_prompt_are_read_from_the_folder_of_the_file(tmp_path: Path) -> None:
    _, second = (write_picture(tmp_path / name) for name in ("a.png", "b.png"))
    items = [
        {"question": "what?", "image": "a.png", "reference": "a cat"},
        {"question": "<image> or <image>?", "images": ["a.png", second]},
        {"question": "who?"},
    ]
    (tmp_path / "q.json").write_text(json.dumps(items))
    prompts = read_eval_prompts(str(tmp_path / "q.json"))
    assert [prompt.images for prompt in prompts] == [("a.png",), ("a.png", second), ()]
    assert [len(prompt.conversation()[0].images) for prompt in prompts] == [1, 2, 0]
    assert prompts[1].conversation()[0].content == f"{IMAGE_PLACE} or {IMAGE_PLACE}?"
    results = [PromptResult(prompt, "a", None, True) for prompt in prompts]
    # Records have the paths of the config, which are the same on every machine.
    assert [result.to_dict().get("images") for result in results] == [["a.png"], ["a.png", second], None]
    assert [
        PromptResult.from_dict(json.loads(json.dumps(result.to_dict()))) for result in results
    ] == results


@pytest.mark.parametrize(
    ("item", "key"),
    [
        ({"question": "what?", "image": "absent.png"}, "eval_prompts[0].image"),
        ({"question": "<image> <image>", "image": "a.png"}, "eval_prompts[0].image"),
        ({"question": "what?", "images": [1]}, "eval_prompts[0].images"),
        ({"question": "what?", "images": "a.png"}, "eval_prompts[0]"),
        ({"question": "what?", "image": "http://a.example/a.png"}, "eval_prompts[0].image"),
    ],
)
def test_unusable_image_of_a_prompt_raises(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, item: dict[str, Any], key: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write_picture(tmp_path / "a.png")
    item = {
        name: value.replace("a.png", str(tmp_path / "a.png"))
        if name == "image" and value == "a.png"
        else value
        for name, value in item.items()
    }
    with pytest.raises(ConfigError) as caught:
        read_eval_prompts([item])
    assert caught.value.key == key


def test_image_for_a_text_model_raises(tmp_path: Path) -> None:
    prompts = [EvalPrompt("who?"), EvalPrompt("what?", images=(write_picture(tmp_path / "a.png"),))]
    with pytest.raises(ConfigError) as caught:
        check_images(prompts, None)
    assert caught.value.key == "eval_prompts[1].image"
    check_images(prompts, FakeProcessor())
    check_images(prompts[:1], None)

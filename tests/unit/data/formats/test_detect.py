"""The format of rows, by their columns and turns."""

from typing import Any

import pytest

from xft.config.overrides import parse_overrides
from xft.data.formats.detect import detect_format, format_override
from xft.data.formats.detect_rules import RULES
from xft.errors import DataError

TALK = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
HUMAN = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]
PICTURE = [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "A cat"}]
HI, HELLO, BYE = TALK[:1], TALK[1:], [{"role": "assistant", "content": "Bye"}]


def spec(type: str, **columns: str) -> dict[str, str]:
    return {"type": type, **columns}


QA = spec("columns", user="question", assistant="answer")


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"messages": TALK, "id": 3}, spec("openai")),
        ({"dialog": TALK, "source": "web"}, spec("openai", messages="dialog")),
        ({"messages": str(TALK)}, spec("openai")),
        ({"prompt": "Hi", "prompt_id": "a", "messages": TALK}, spec("openai")),
        ({"conversations": HUMAN}, spec("sharegpt")),
        ({"messages": HUMAN}, spec("sharegpt", conversations="messages")),
        ({"conversations": [{"role": "human", "content": "Hi"}, HELLO[0]]}, spec("sharegpt")),
        ({"image": "a.png", "conversations": PICTURE}, spec("sharegpt")),
        ({"conversation": [{"input": "Hi", "output": "Hello"}]}, spec("xtuner")),
        ({"instruction": "Add.", "input": "", "output": "3"}, spec("alpaca")),
        ({"instruction": "Add.", "output": "3"}, spec("alpaca")),
        ({"instruction_zh": "相加", "output_zh": "3"}, spec("alpaca_zh")),
        ({"text": "### Human: Hi### Assistant: Hello"}, spec("oasst1")),
        ({"prompt": "Hi", "completion": "Hello"}, spec("prompt_completion")),
        ({"prompt": HI, "completion": HELLO}, spec("prompt_completion")),
        ({"Question": "Hi", "Answer": "Hello", "Note": "x"}, spec("columns", user="Question", assistant="Answer")),
        ({"query": "Hi", "response": "Hello"}, spec("columns", user="query", assistant="response")),
        ({"question": "Is it?", "answer": "yes"}, spec("columns", user="question", assistant="answer")),
        ({"input": "Hi", "output": "Hello"}, spec("columns", user="input", assistant="output")),
        ({"问题": "你好", "答案": "好"}, spec("columns", user="问题", assistant="答案")),
        (
            {"instruction": "Who?", "context": "He.", "response": "He", "category": "qa"},
            spec("alpaca", input="context", output="response"),
        ),
        (
            {"system_prompt": "Be brief.", "question": "Hi", "response": "Hello"},
            spec("alpaca", instruction="question", system="system_prompt", output="response"),
        ),
        ({"question": "Who?", "input": "He.", "answer": "He"}, spec("alpaca", instruction="question", output="answer")),
        ({"instruction": "Who?", "context": "He.", "output": "He"}, spec("alpaca", input="context")),
        ({"instruction": "Who?", "input": "", "context": "He.", "output": "He"}, spec("alpaca", input="context")),
        ({"messages": TALK, "System Prompt": "Be brief."}, spec("openai", system="System Prompt")),
        ({"messages": [{"role": "system", "content": "Be long."}, *TALK], "system_prompt": "Be brief."}, spec("openai")),
        ({"conversations": HUMAN, "system_prompt": "Be brief."}, spec("sharegpt", system="system_prompt")),
        ({"prompt": HI, "completion": HELLO, "system_prompt": "A"}, spec("prompt_completion", system="system_prompt")),
        (
            {"prompt": "Who?", "context": "He.", "completion": "He"},
            spec("alpaca", instruction="prompt", input="context", output="completion"),
        ),
        ({"question": "What?", "answer": "A cat", "image": "a.png"}, spec("columns", user="question", assistant="answer")),
    ],
)  # fmt: skip
def test_instruction_rows(row: dict[str, Any], expected: dict[str, str]) -> None:
    assert detect_format([row] * 3, "instruction", "rows") == expected


@pytest.mark.parametrize(
    ("kind", "row", "expected"),
    [
        ("text", {"text": "Once", "title": "A"}, spec("text")),
        ("text", {"content": "Once", "id": 1}, spec("columns", text="content")),
        ("text", {"story": "Once", "id": 1}, spec("columns", text="story")),
        ("preference", {"prompt": "Hi", "chosen": "Hello", "rejected": "Bye"}, spec("preference")),
        ("preference", {"prompt": "Hi", "chosen": TALK, "rejected": HI + BYE}, spec("preference")),
        ("preference", {"chosen": TALK, "rejected": HI + BYE}, spec("preference")),
        ("preference", {"question": "Hi", "chosen": "A", "rejected": "B"}, spec("preference", prompt="question")),
        ("preference", {"instruction": "Hi", "chosen": "A", "rejected": "B"}, spec("alpaca_preference")),
        (
            "preference",
            {"conversations": HUMAN[:1], "chosen": HUMAN[1], "rejected": {"from": "gpt", "value": "B"}},
            spec("sharegpt_preference"),
        ),
        ("preference", {"messages": TALK, "rejected_response": "Bye"}, spec("preference")),
        (
            "preference",
            {"messages": TALK, "rejected_messages": HI + BYE},
            spec("preference", chosen="messages", rejected="rejected_messages"),
        ),
        (
            "preference",
            {"prompt": "Hi", "accepted": "A", "rejected": "B"},
            spec("preference", chosen="accepted", rejected="rejected"),
        ),
        (
            "preference",
            {"prompt": "Hi", "system_prompt": "Be brief.", "chosen": "A", "rejected": "B"},
            spec("preference", system="system_prompt"),
        ),
        (
            "preference",
            {"prompt": "Who?", "context": "He.", "chosen": "A", "rejected": "B"},
            spec("alpaca_preference", instruction="prompt", input="context"),
        ),
        (
            "preference",
            {"instruction": "Who?", "passage": "He.", "chosen": "A", "rejected": "B"},
            spec("alpaca_preference", input="passage"),
        ),
        ("prompt", {"prompt": "Hi", "system_prompt": "Be brief."}, spec("prompt", system="system_prompt")),
        (
            "unpaired_preference",
            {"prompt": "Hi", "completion": "A", "label": True, "system_prompt": "Be brief."},
            spec("kto", system="system_prompt"),
        ),
        ("unpaired_preference", {"prompt": "Hi", "completion": "A", "label": True}, spec("kto")),
        ("unpaired_preference", {"messages": TALK, "label": "false"}, spec("kto")),
        (
            "unpaired_preference",
            {"question": "Hi", "answer": "A", "label": 1},
            spec("columns", user="question", assistant="answer", label="label"),
        ),
        ("unpaired_preference", {"prompt": "Hi", "chosen": "A", "rejected": "B"}, spec("preference")),
        ("prompt", {"prompt": "Hi", "reference": "A"}, spec("prompt")),
        ("prompt", {"question": "Hi", "answer": "A"}, spec("prompt", prompt="question")),
        ("prompt", {"messages": TALK}, spec("openai")),
    ],
)  # fmt: skip
def test_rows_of_other_kinds(kind: str, row: dict[str, Any], expected: dict[str, str]) -> None:
    assert detect_format([row], kind, "rows") == expected


@pytest.mark.parametrize(
    ("kind", "row", "fix"),
    [
        ("instruction", {"prompt": "Hi", "chosen": "A", "rejected": "B"}, "--method dpo"),
        ("instruction", {"messages": TALK, "rejected_response": "Bye"}, "--method dpo"),
        ("instruction", {"messages": TALK, "rejected_messages": HI + BYE}, "--method dpo"),
        ("instruction", {"prompt": "Hi", "completion": "A", "label": True}, "objective=kto"),
        ("instruction", {"text": "Once upon a time"}, "--method pretrain"),
        ("preference", {"messages": TALK}, "--method qlora"),
        ("unpaired_preference", {"question": "Hi", "answer": "A"}, "--method qlora"),
        ("text", {"messages": TALK}, "--method qlora"),
    ],
)
def test_rows_that_the_method_does_not_train_on_name_the_method(
    kind: str, row: dict[str, Any], fix: str
) -> None:
    with pytest.raises(DataError) as caught:
        detect_format([row], kind, "rows")
    assert caught.value.key == "data.format"
    assert fix in caught.value.fix
    assert caught.value.got == list(row)


@pytest.mark.parametrize(
    ("kind", "row", "choices"),
    [
        (
            "instruction",
            {"question": "Hi", "query": "Ho", "answer": "A"},
            ["user='question'", "user='query'"],
        ),
        ("instruction", {"question": "Hi", "answer": "A", "response": "B"}, ["'answer'", "'response'"]),
        ("instruction", {"messages": TALK, "talk": TALK}, ["format=openai", "messages='talk'"]),
        ("text", {"content": "A", "body": "B"}, ["text='content'", "text='body'"]),
    ],
)
def test_several_ways_to_read_rows_are_an_error_with_the_choices(
    kind: str, row: dict[str, Any], choices: list[str]
) -> None:
    with pytest.raises(DataError) as caught:
        detect_format([row], kind, "rows")
    assert all(choice in caught.value.fix for choice in choices)


@pytest.mark.parametrize("kind", sorted(RULES))
def test_unknown_columns_end_in_an_override_that_parses(kind: str) -> None:
    with pytest.raises(DataError) as caught:
        detect_format([{"frage": "Hi", "antwort": "Hallo", "nummer": 7}], kind, "rows")
    assert caught.value.got == ["frage", "antwort", "nummer"]
    override = caught.value.fix.split('"')[1]
    (value,) = parse_overrides([override]).values()
    assert value["type"] == ("prompt" if kind == "prompt" else "columns")
    assert "frage" in value.values()


def test_formats_that_fit_the_columns_are_tried_on_the_rows() -> None:
    row = {"question": "Hi", "query": None, "answer": "A"}
    rows: list[dict[str, Any]] = [row, row, {**row, "query": "Ho"}]
    assert detect_format(rows, "instruction", "rows") == spec(
        "columns", user="question", assistant="answer"
    )
    rows = [{"question": None, "query": None, "answer": "A"}] * 4 + rows
    with pytest.raises(DataError) as caught:
        detect_format(rows, "instruction", "rows")
    assert "is null" in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "row", "odd", "expected"),
    [
        ("instruction", {"question": "Hi", "answer": "A"}, {"messages": TALK}, QA),
        ("instruction", {"question": "Hi", "answer": "A"}, {"prompt": "Hi", "chosen": "A", "rejected": "B"}, QA),
        ("instruction", {"question": "Hi", "answer": "A"}, {"question": "Hi", "answer": "A", "label": True}, QA),
        ("instruction", {"question": "Hi", "answer": "A"}, {"instruction": "Hi", "output": "A"}, QA),
        ("instruction", {"question": "Hi", "answer": "A"}, {"prompt": "Hi", "completion": "A"}, QA),
        ("unpaired_preference", {"prompt": "Hi", "completion": "A", "label": True}, {"label": "maybe"}, spec("kto")),
        ("text", {"content": "Once"}, {"text": "Twice"}, spec("columns", text="content")),
        ("prompt", {"question": "Hi"}, {"prompt": "Ho"}, spec("prompt", prompt="question")),
    ],
)  # fmt: skip
def test_one_odd_row_does_not_decide(
    kind: str, row: dict[str, Any], odd: dict[str, Any], expected: dict[str, str]
) -> None:
    assert detect_format([row] * 20 + [odd], kind, "rows") == expected
    assert detect_format([odd] + [row] * 20, kind, "rows") == expected


def test_one_marked_text_does_not_make_a_file_of_conversations() -> None:
    rows = [{"text": "Once upon a time"}] * 9 + [{"text": "### Human: Hi### Assistant: Hello"}]
    with pytest.raises(DataError) as caught:
        detect_format(rows, "instruction", "rows")
    assert "--method pretrain" in caught.value.fix


def test_a_context_that_few_rows_have_is_read() -> None:
    rows = [{"question": "Hi", "answer": "A", "context": None}] * 9
    rows += [{"question": "Who?", "answer": "He", "context": "He."}]
    expected = spec("alpaca", instruction="question", input="context", output="answer")
    assert detect_format(rows, "instruction", "rows") == expected


def test_rows_that_fit_no_format_are_named_by_their_places() -> None:
    rows = [{"question": None, "query": None, "answer": "A"}] * 3 + [{"question": "Hi", "query": "Ho"}] * 2
    with pytest.raises(DataError) as caught:
        detect_format(rows, "instruction", "a.jsonl", [f"a.jsonl:{number}" for number in range(5, 10)])
    assert "a.jsonl:5: field question: is null" in str(caught.value)


def test_one_format_is_chosen_for_rows_that_do_not_fit_it() -> None:
    assert detect_format([{"instruction": 3, "output": None}], "instruction", "rows") == spec("alpaca")


def test_format_override_is_one_word_of_a_shell() -> None:
    assert format_override({"type": "alpaca"}) == "data.format=alpaca"
    override = format_override({"type": "columns", "user": "My question"})
    assert override == "\"data.format=dict(type='columns', user='My question')\""
    assert parse_overrides([override.strip('"')]) == {
        "data.format": {"type": "columns", "user": "My question"}
    }

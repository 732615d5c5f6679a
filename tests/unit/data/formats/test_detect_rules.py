"""Names of columns that format detection knows."""

from typing import Any

import pytest

from xft.data.formats.detect import detect_format
from xft.errors import DataError


def spec(type: str, **columns: str) -> dict[str, str]:
    return {"type": type, **columns}


@pytest.mark.parametrize(
    "name",
    [
        *("reply", "response", "answer", "output", "completion", "target", "solution", "assistant"),
        *("Reply", "Model Response", "bot-response", "expected_output", "ground_truth", "final_answer"),
        *("summary", "translation", "reference", "result", "agent", "答复"),
    ],
)
def test_answer_has_many_names(name: str) -> None:
    for question in ("question", "instruction", "user"):
        found_format = detect_format([{question: "Hi", name: "Hello", "id": 3}], "instruction", "rows")
        assert found_format in (spec("columns", user=question, assistant=name), spec("alpaca"))


@pytest.mark.parametrize(
    "name", ["prompt", "query", "message", "text", "content", "User Message", "email", "source", "用户"]
)
def test_question_has_many_names(name: str) -> None:
    rows = [{name: "Hi", "reply": "Hello"}]
    assert detect_format(rows, "instruction", "rows") == spec("columns", user=name, assistant="reply")


@pytest.mark.parametrize(
    ("row", "columns"),
    [
        # A known name goes before a less common one.
        ({"question": "Hi", "message": "?", "source": "web", "answer": "A", "result": "B"}, ("question", "answer")),
        ({"text": "Long", "summary": "Short"}, ("text", "summary")),
        ({"customer": "Hi", "agent": "Hello"}, ("customer", "agent")),
        ({"q": "Hi", "a": "Hello"}, ("q", "a")),
    ],
)  # fmt: skip
def test_less_common_names_count_where_no_other_is_there(
    row: dict[str, Any], columns: tuple[str, str]
) -> None:
    expected = spec("columns", user=columns[0], assistant=columns[1])
    assert detect_format([row], "instruction", "rows") == expected


@pytest.mark.parametrize(
    "row", [{"content": "A", "reference": "a.org"}, {"title": "A", "body": "B", "reply": "C"}]
)
def test_less_common_names_do_not_decide_alone(row: dict[str, Any]) -> None:
    with pytest.raises(DataError) as caught:
        detect_format([row], "instruction", "rows")
    assert caught.value.fix.startswith("name the columns")

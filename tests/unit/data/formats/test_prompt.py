"""Format of prompts."""

import pytest

from xft.data.formats import prompt
from xft.errors import DataError
from xft.types import Conversation, Message, Row

SYSTEM = Message("system", "Be brief.")
USER = Message("user", "Hi")


@pytest.mark.parametrize(
    ("row", "options", "expected"),
    [
        ({"prompt": "Hi"}, {}, [USER]),
        ({"prompt": "Hi", "system": "Be brief."}, {}, [SYSTEM, USER]),
        ({"prompt": "Hi", "system": ""}, {}, [USER]),
        ({"question": "Hi"}, {"prompt": "question"}, [USER]),
        ({"prompt": "Hi"}, {"system_text": "Be brief."}, [SYSTEM, USER]),
        ({"prompt": "Hi", "system": "Be brief."}, {"system_text": "Be long."}, [SYSTEM, USER]),
        ({"prompt": [{"role": "user", "content": "Hi"}]}, {"system_text": "Be brief."}, [SYSTEM, USER]),
    ],
)
def test_prompt_is_a_text_or_messages(row: Row, options: dict[str, str], expected: list[Message]) -> None:
    assert prompt(row, **options) == expected


def test_tools_are_kept() -> None:
    tools = [
        {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
    ]
    result = prompt({"prompt": "Hi", "tools": tools})
    assert isinstance(result, Conversation)
    assert [*result.tools] == tools


@pytest.mark.parametrize("row", [{}, {"prompt": None}, {"prompt": 3}, {"prompt": [3]}])
def test_other_values_are_refused(row: Row) -> None:
    with pytest.raises(DataError):
        prompt(row)

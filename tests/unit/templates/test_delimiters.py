import pytest

from xft.errors import TemplateError
from xft.templates.delimiters import TurnDelimiters
from xft.types import Message, ToolCall

CHATML = TurnDelimiters("<|im_start|>assistant\n", "<|im_end|>", ("<|eom_id|>",))
PLAIN, CALLING = Message("assistant", "x"), Message("assistant", "", tool_calls=(ToolCall("f", {}),))


def test_start_is_after_the_last_generation_prompt() -> None:
    before = "<|im_start|>assistant\n is quoted <|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n"
    assert before[CHATML.start(before, 0) :] == "<think>\n\n</think>\n"


def test_start_without_generation_prompt_includes_the_lead() -> None:
    llama2 = TurnDelimiters("", "</s>", lead=" ")
    assert llama2.start("[/INST] ", 0) == len("[/INST]")
    assert llama2.start("[/INST]", 0) == len("[/INST]")


def test_start_in_text_without_generation_prompt_raises_template_error() -> None:
    with pytest.raises(TemplateError) as error:
        CHATML.start("<|im_start|>user\n", 4)
    assert (error.value.key, error.value.expected) == ("template", CHATML.generation_prompt)
    assert "turn 5" in str(error.value)


@pytest.mark.parametrize(
    ("message", "after", "end"),
    [
        (PLAIN, "<|im_end|>\n<|im_end|>", len("<|im_end|>")),
        (CALLING, "</tool_call><|im_end|>\n", len("</tool_call><|im_end|>")),
        (CALLING, "]<|eom_id|>\n", len("]<|eom_id|>")),
        (CALLING, "]<|eom_id|>\n<|im_end|>", len("]<|eom_id|>\n<|im_end|>")),
    ],
)
def test_end_includes_the_end_of_turn_token(message: Message, after: str, end: int) -> None:
    assert CHATML.end(after, 0, message) == end


@pytest.mark.parametrize(
    ("message", "after"), [(PLAIN, "\n<|im_end|>"), (PLAIN, "<|eom_id|>"), (CALLING, "</tool_call>")]
)
def test_end_of_turn_that_is_not_closed_raises_template_error(message: Message, after: str) -> None:
    with pytest.raises(TemplateError) as error:
        CHATML.end(after, 0, message)
    assert (error.value.key, error.value.expected) == ("template", "<|im_end|>")

import pytest

from xft.errors import TemplateError
from xft.templates.coverage_check import check_call_names, check_content_is_rendered
from xft.types import Message, Messages, ToolCall

USER = Message("user", "Hi")


@pytest.mark.parametrize(
    ("text", "messages"),
    [
        ("Hi|Hello", [USER, Message("assistant", "Hello")]),
        ("Hi|Hello", [USER, Message("assistant", " \nHello ")]),
        ("Hi|", [USER, Message("assistant", "")]),
        ("Hi|Hello", [USER, Message("assistant", "<think>why</think>Hello")]),
        ('{"r": "a\\nb"}', [Message("tool", "a\nb")]),
        # A template that moves the system message behind the first turns.
        ("Hi|Hello|Be brief.|Bye", [Message("system", "Be brief."), USER, Message("assistant", "Hello")]),
    ],
)
def test_complete_text_passes(text: str, messages: Messages) -> None:
    check_content_is_rendered(text, messages, ())


@pytest.mark.parametrize(
    ("text", "messages", "got"),
    [
        ("Hi|", [USER, Message("assistant", "Hello")], "Hello"),
        ("Hi", [USER, Message("user", "Hi")], "Hi"),
        ("a\\nb", [Message("user", "a\nb")], "a\nb"),
        (
            "<think>why</think>",
            [Message("assistant", "<think>why</think>Hello")],
            "<think>why</think>Hello",
        ),
        # The short message is inside the long one, and nowhere else.
        ("Be brief. Hi", [Message("user", "brief"), Message("system", "Be brief. Hi")], "brief"),
    ],
)
def test_dropped_content_raises_template_error(text: str, messages: Messages, got: str) -> None:
    with pytest.raises(TemplateError) as error:
        check_content_is_rendered(text, messages, ())
    assert (error.value.key, error.value.got) == ("template", got)


def test_dropped_tool_call_raises_template_error_with_its_name() -> None:
    messages = [USER, Message("assistant", "", tool_calls=(ToolCall("add", {}), ToolCall("sub", {})))]
    check_content_is_rendered("Hi add sub", messages, ())
    with pytest.raises(TemplateError) as error:
        check_content_is_rendered("Hi add", messages, ())
    assert (error.value.key, error.value.got) == ("template", "sub")


@pytest.mark.parametrize("tool", [{"name": "add"}, {"type": "function", "function": {"name": "add"}}])
def test_dropped_tool_raises_template_error_with_its_name(tool: dict[str, object]) -> None:
    check_content_is_rendered("Hi add", [USER], [tool])
    with pytest.raises(TemplateError) as error:
        check_content_is_rendered("Hi", [USER], [tool])
    assert (error.value.key, error.value.got) == ("tools", "add")


def test_call_without_its_name_raises_template_error_with_the_expected_id() -> None:
    """Kimi K2 writes ids; a name in another place, such as the list of tools, does not count."""
    call = Message("assistant", "", tool_calls=(ToolCall("weather", {"city": "Oslo"}, "call_1"),))
    check_call_names('<call>functions.weather:0{"city": "Oslo"}</call>', call, 1)
    with pytest.raises(TemplateError) as error:
        check_call_names('<call>call_1{"city": "Oslo"}</call>', call, 1)
    assert (error.value.got, error.value.expected) == ("call_1", "functions.weather:0")

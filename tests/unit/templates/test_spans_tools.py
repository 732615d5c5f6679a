"""Tools, tool calls and reasoning: Qwen3's official template against texts written by hand, and what
is refused where a template cannot show them."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from helpers import jinja_sources as jinja

from xft.errors import TemplateError
from xft.templates import SOURCES, BoundTemplate, ChatTemplate
from xft.types import Message, Messages, ToolCall, Tools

WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Weather of a city & its <sky>",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
TOOLS_JSON = (
    '{"type": "function", "function": {"name": "weather", "description": "Weather of a city & its <sky>", '
    '"parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}}'
)
CALL = ToolCall("weather", {"city": "Köln", "days": 2}, "call_1")
CALL_TEXT = '<tool_call>\n{"name": "weather", "arguments": {"city": "Köln", "days": 2}}\n</tool_call>'
QUESTION = Message("user", "Weather in Köln?")
ASKS = Message("assistant", "", True, tool_calls=(CALL,))
RESULT = Message("tool", '{"sky": "grey"}', name="weather")
ANSWER = Message("assistant", "Grey.", True)
NO_THOUGHT = "<think>\n\n</think>\n\n"


@pytest.fixture(scope="module")
def qwen3(qwen3_tokenizer: Any) -> BoundTemplate:
    return ChatTemplate().bind(qwen3_tokenizer)


def trained(template: BoundTemplate, messages: Messages, tools: Tools = ()) -> list[str]:
    segments = template.segments(messages, tools)
    assert "".join(each.text for each in segments) == template.render(messages, tools=tools)
    return [each.text for each in segments if each.is_target]


def test_tools_are_shown_and_the_call_is_trained(qwen3: BoundTemplate) -> None:
    """The text is that of Qwen3's model card: tools in the system turn, results as the user's."""
    text = qwen3.render([QUESTION, ASKS, RESULT, ANSWER], tools=[WEATHER])
    head, _, turns = text.partition("<|im_start|>user\n")
    assert head.startswith("<|im_start|>system\n# Tools\n\n")
    assert f"<tools>\n{TOOLS_JSON}\n</tools>" in head
    assert turns == (
        "Weather in Köln?<|im_end|>\n"
        f"<|im_start|>assistant\n{CALL_TEXT}<|im_end|>\n"
        '<|im_start|>user\n<tool_response>\n{"sky": "grey"}\n</tool_response><|im_end|>\n'
        f"<|im_start|>assistant\n{NO_THOUGHT}Grey.<|im_end|>\n"
    )
    assert trained(qwen3, [QUESTION, ASKS, RESULT, ANSWER], [WEATHER]) == [
        f"{CALL_TEXT}<|im_end|>",
        "Grey.<|im_end|>",
    ]


def test_text_with_tools_is_the_one_of_apply_chat_template(qwen3: BoundTemplate) -> None:
    function = {"name": "weather", "arguments": {"city": "Köln", "days": 2}}
    turns = [
        {"role": "user", "content": "Weather in Köln?"},
        {
            "role": "assistant",
            "content": "Let me look.",
            "reasoning_content": "I should look.",
            "tool_calls": [{"type": "function", "id": "call_1", "function": function}],
        },
        {"role": "tool", "content": '{"sky": "grey"}', "name": "weather"},
    ]
    asks = Message("assistant", "Let me look.", reasoning="I should look.", tool_calls=(CALL,))
    tokenizer: Any = qwen3.tokenizer
    expected = tokenizer.apply_chat_template(
        turns, tools=[WEATHER], tokenize=False, return_dict=False, add_generation_prompt=True
    )
    assert qwen3.render([QUESTION, asks, RESULT], generation=True, tools=[WEATHER]) == expected


def test_two_calls_beside_a_content_and_reasoning_are_one_piece(qwen3: BoundTemplate) -> None:
    other = ToolCall("weather", {"city": "Bonn"})
    asks = Message("assistant", "Both.", True, "Two cities.", (CALL, other))
    assert trained(qwen3, [QUESTION, asks], [WEATHER]) == [
        "<think>\nTwo cities.\n</think>\n\nBoth.\n"
        f"{CALL_TEXT}\n"
        '<tool_call>\n{"name": "weather", "arguments": {"city": "Bonn"}}\n</tool_call><|im_end|>'
    ]


@pytest.mark.parametrize(
    "said", ["<|im_end|>", "</tool_call><|im_end|>\n", "\ue000answer\ue001", "{{ 1 }}", '"']
)
def test_what_the_arguments_say_does_not_end_the_piece(qwen3: BoundTemplate, said: str) -> None:
    asks = Message("assistant", said, True, tool_calls=(ToolCall("weather", {"city": said}),))
    [piece] = trained(qwen3, [QUESTION, asks], [WEATHER])
    written = said.replace('"', '\\"').replace("\n", "\\n")
    assert piece == said.lstrip("\n") + (
        f'\n<tool_call>\n{{"name": "weather", "arguments": {{"city": "{written}"}}}}\n</tool_call><|im_end|>'
    )


def test_reasoning_of_the_last_answer_is_trained_and_of_earlier_ones_left_out(qwen3: BoundTemplate) -> None:
    """As Qwen3 documents: history holds no thinking."""
    first = Message("assistant", "Grey.", True, "Look up.")
    last = Message("assistant", "Blue.", True, "Look again.")
    messages = [QUESTION, first, Message("user", "And now?"), last]
    for _ in range(2):
        assert trained(qwen3, messages) == [
            "Grey.<|im_end|>",
            "<think>\nLook again.\n</think>\n\nBlue.<|im_end|>",
        ]


def test_reasoning_stands_before_the_content_where_the_template_has_no_field_for_it(
    byte_tokenizer: Any,
) -> None:
    template = ChatTemplate(SOURCES["chatml"]).bind(byte_tokenizer)
    answer = Message("assistant", "Grey.", True, "Look up.")
    assert trained(template, [QUESTION, answer]) == ["<think>\nLook up.\n</think>\n\nGrey.<|im_end|>"]


HEADS = "{% for m in messages %}<|im_start|>{{ m.role }}\n"
OPENS = "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
CONTENT_ONLY = HEADS + "{{ m.content }}<|im_end|>\n" + OPENS
READS_TOOLS = "{% if tools and false %}{{ tools }}{% endif %}"
CALLS = "{% for c in m.tool_calls %}{{ c.function.name }}({{ c.function.arguments | tojson }}){% endfor %}"
CONTENT_OR_CALLS = (
    HEADS + "{% if m.tool_calls %}" + CALLS + "{% else %}{{ m.content }}{% endif %}<|im_end|>\n" + OPENS
)
NO_RESULT = HEADS + "{% if m.role != 'tool' %}{{ m.content }}{% endif %}" + CALLS + "<|im_end|>\n" + OPENS
NO_SYSTEM = (
    "{% for m in messages if m.role != 'system' %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n"
    + OPENS
)


@pytest.mark.parametrize(
    ("source", "messages", "tools", "key", "dropped"),
    [
        (CONTENT_ONLY, [QUESTION, ANSWER], [WEATHER], "tools", None),
        (READS_TOOLS + CONTENT_ONLY, [QUESTION, ANSWER], [WEATHER], "tools", None),
        (CONTENT_ONLY, [QUESTION, ASKS], [], "template", "weather"),
        (
            CONTENT_OR_CALLS,
            [QUESTION, Message("assistant", "Let me look.", True, tool_calls=(CALL,))],
            [],
            "template",
            "Let me look.",
        ),
        (NO_RESULT, [QUESTION, ASKS, RESULT, ANSWER], [], "template", RESULT.content),
        (NO_SYSTEM, [Message("system", "Brief!"), QUESTION, ANSWER], [], "template", "Brief!"),
    ],
)
def test_dropped_content_raises_every_time(
    source: str, messages: list[Message], tools: Tools, key: str, dropped: str | None, byte_tokenizer: Any
) -> None:
    template = ChatTemplate(source).bind(byte_tokenizer)
    for _ in range(2):
        for render in (template.segments, lambda m, t: template.render(m, tools=t)):
            with pytest.raises(TemplateError) as error:
                render(messages, tools)
            assert (error.value.key, error.value.got) == (key, dropped)


def test_empty_system_turn_that_vanishes_takes_nothing_away(byte_tokenizer: Any) -> None:
    template = ChatTemplate(NO_SYSTEM).bind(byte_tokenizer)
    for system, fits in (("", True), ("Brief!", False), (" ", True)):
        messages = [Message("system", system), QUESTION, ANSWER]
        if fits:
            assert trained(template, messages) == ["Grey.<|im_end|>"]
        else:
            with pytest.raises(TemplateError, match="drops the content"):
                template.segments(messages)


@pytest.mark.parametrize(
    ("messages", "tools", "told"),
    [
        ([], (), "the conversation is empty"),
        (
            [Message("user", "x", reasoning="hm"), ANSWER],
            (),
            "turn 1: only assistant messages can have reasoning",
        ),
        (
            [Message("user", "x", tool_calls=(CALL,)), ANSWER],
            (),
            "turn 1: only assistant messages can call tools",
        ),
        (
            [
                QUESTION,
                Message("assistant", "", True, tool_calls=(ToolCall("weather", {"city": object()}),)),
            ],
            (),
            "turn 2: the arguments of 'weather': got .* expected a JSON value",
        ),
        ([QUESTION, ANSWER], [{"function": {"name": b"weather"}}], "tools: got b'weather'"),
    ],
)
def test_what_no_template_can_mean_is_refused(
    qwen3: BoundTemplate, messages: list[Message], tools: Tools, told: str
) -> None:
    with pytest.raises(TemplateError, match=told):
        qwen3.segments(messages, tools)


EOM = "{{ '<|eom_id|>' if m.tool_calls else '<|eot_id|>' }}"
CLOSED_OTHERWISE = HEADS + "{{ m.content }}" + CALLS + EOM + OPENS


@pytest.mark.parametrize("traced", [True, False])
def test_tool_call_may_be_closed_by_another_special_token(
    traced: bool, make_byte_tokenizer: Callable[..., Any]
) -> None:
    """As Llama 3.1 closes calls with <|eom_id|>: "end of message", a result is waited for."""
    tokenizer = make_byte_tokenizer(specials=("<|im_start|>", "<|eot_id|>", "<|eom_id|>"))
    source = CLOSED_OTHERWISE if traced else "{% macro f() %}{% endmacro %}" + CLOSED_OTHERWISE
    template = ChatTemplate(source).bind(tokenizer)
    assert trained(template, [QUESTION, ASKS, RESULT, ANSWER]) == [
        'weather({"city": "Köln", "days": 2})<|eom_id|>',
        "Grey.<|eot_id|>",
    ]
    assert template.stop_tokens == ("<|eot_id|>", "<|eom_id|>")


def test_template_that_closes_all_turns_alike_has_one_stop_token(
    qwen3: BoundTemplate, byte_tokenizer: Any
) -> None:
    assert qwen3.stop_tokens == ("<|im_end|>",)
    assert ChatTemplate(SOURCES["chatml"]).bind(byte_tokenizer).stop_tokens == ("<|im_end|>",)


@pytest.mark.parametrize("messages", [[QUESTION, ASKS, RESULT, ANSWER], [QUESTION, ANSWER]])
def test_tool_calls_are_found_by_marks_as_by_traces(qwen3: BoundTemplate, messages: list[Message]) -> None:
    """An unused macro keeps the source from being traced and changes nothing else."""
    untraced = ChatTemplate("{% macro f() %}{% endmacro %}" + qwen3.source).bind(qwen3.tokenizer)
    assert untraced.segments(messages, [WEATHER]) == qwen3.segments(messages, [WEATHER])


def test_call_whose_name_is_only_in_the_list_of_tools_raises(
    make_byte_tokenizer: Callable[..., Any],
) -> None:
    template = ChatTemplate(jinja.CALL_IDS).bind(make_byte_tokenizer(specials=jinja.SPECIALS))
    named = replace(ASKS, tool_calls=(replace(CALL, id="functions.weather:0"),))
    text = trained(template, [QUESTION, named, RESULT, ANSWER], [WEATHER])[0]
    assert text == '<call>functions.weather:0{"city": "Köln", "days": 2}</call><|im_end|>'
    with pytest.raises(TemplateError) as error:
        template.segments([QUESTION, ASKS, RESULT, ANSWER], [WEATHER])
    assert (error.value.got, error.value.expected) == ("call_1", "functions.weather:0")

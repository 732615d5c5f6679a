"""What the template of a tokenizer reads is what the row has."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from typing import Any

import pytest

from xft.data import formats
from xft.errors import TemplateError
from xft.templates import SOURCES, BoundTemplate, ChatTemplate
from xft.templates.message_fields import check_messages
from xft.types import Conversation, Message, Row, ToolCall

CHATML = SOURCES["chatml"]
DUMP = "{% for m in messages %}{{ m | tojson }}\n{% endfor %}"
"""Prints all keys of the messages, after text that binds like ChatML."""
READS = "{# #}{% set names = ['thinking', 'reasoning_content', 'developer'] %}"
IDS = (
    "{% for m in messages %}<|im_start|>{{ m.name or m.role }}\n"
    "{% if m.role == 'tool' %}## Return of {{ m.tool_call_id }}\n{% endif %}{{ m.content or '' }}"
    "{% for c in m.tool_calls or [] %}[{{ c.id }}]{{ c.function.arguments if c.function.arguments is string "
    "else c.function.arguments | tojson }}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""Writes the ids of calls and results, and JSON text of arguments as it is, as Kimi K2 does."""
USER = {"role": "user", "content": "Rain?"}
ANSWER = {"role": "assistant", "content": "No."}
ARGUMENTS = '{"city":"Oslo"}'


def calling(arguments: Any = ARGUMENTS, **more: Any) -> Row:
    call = {"id": "functions.weather:0", "type": "function"}
    call["function"] = {"name": "weather", "arguments": arguments}
    return {"role": "assistant", "content": None, "tool_calls": [call], **more}


RESULT = {"role": "tool", "tool_call_id": "functions.weather:0", "content": "dry"}


def parse(*turns: Row) -> list[Message]:
    value = formats.openai({"messages": list(turns)})
    return list(value.messages if isinstance(value, Conversation) else value)


def official(tokenizer: Any, source: str, turns: list[Row]) -> str:
    text = tokenizer.apply_chat_template(turns, chat_template=source, tokenize=False, return_dict=False)
    return str(text)


@pytest.fixture
def bind(make_byte_tokenizer: Callable[..., Any]) -> Callable[[str], BoundTemplate]:
    return lambda source: ChatTemplate(source).bind(make_byte_tokenizer())


@pytest.mark.parametrize("name", [None, "weather"])
def test_ids_of_calls_and_results_are_those_of_the_row(
    name: str | None, bind: Callable[[str], BoundTemplate]
) -> None:
    result = {**RESULT, **({"name": name} if name else {})}
    template, turns = bind(IDS), [USER, calling(), result, ANSWER]
    text = template.render(parse(*turns))
    assert text == official(template.tokenizer, IDS, turns)
    assert "## Return of functions.weather:0\ndry" in text
    assert text.count("weather\n") == bool(name)


TURNS = [
    [{"role": "user", "content": "Rain?", "name": "Ann"}, {**ANSWER, "reasoning_content": "Look up."}],
    [USER, {**ANSWER, "thinking": "Look up.", "channel": "final"}],
    [
        {"role": "system", "content": "Brief.", "tools": [{"name": "weather"}], "documents": ["a"]},
        USER,
        ANSWER,
    ],
    [{"role": "developer", "content": "Brief."}, USER, ANSWER],
    [USER, calling({"city": "Oslo"}, tool_plan="Ask."), {**RESULT, "name": "weather"}, ANSWER],
    [USER, {**calling({"city": "Oslo"}), "content": ""}, RESULT, ANSWER],
    [USER, {**ANSWER, "weight": 0, "prefix": True}, USER, ANSWER],
]


@pytest.mark.parametrize("turns", TURNS)
def test_dicts_are_the_messages_of_the_row(turns: list[Row], bind: Callable[[str], BoundTemplate]) -> None:
    dump = "{% if messages[0].content != 'question' %}" + DUMP + "{% else %}" + CHATML + "{% endif %}"
    template = bind(READS + dump)
    messages = parse(*turns)
    lines = template.render(messages).splitlines()
    thoughts = ("thinking", "reasoning_content")
    for line, turn in zip(lines, turns, strict=True):
        fields = json.loads(line)
        assert {key: fields[key] for key in fields if key in turn or key not in thoughts} == {
            key: value for key, value in turn.items() if value is not None
        }
    assert template.render(messages) == official(template.tokenizer, template.source, turns)


def test_null_keys_are_left_out_as_transformers_does(bind: Callable[[str], BoundTemplate]) -> None:
    """Arrow fills missing keys with null, and ``'tool_calls' in message`` would hold."""
    template = bind(
        "{% if messages[0].content != 'question' %}" + DUMP + "{% else %}" + CHATML + "{% endif %}"
    )
    padded = [{"tool_calls": None, "name": None, **turn} for turn in (USER, calling({}), RESULT, ANSWER)]
    lines = template.render(parse(*padded)).splitlines()
    call = {key: value for key, value in calling({}).items() if key != "content"}
    assert [json.loads(line) for line in lines] == [USER, call, RESULT, ANSWER]


def test_json_text_of_arguments_is_verbatim_only_where_the_template_does_not_escape_it(
    bind: Callable[[str], BoundTemplate],
) -> None:
    messages = parse(USER, calling(), RESULT, ANSWER)
    assert f"[functions.weather:0]{ARGUMENTS}<|im_end|>" in bind(IDS).render(messages)
    escapes = IDS.replace("c.function.arguments if c.function.arguments is string else ", "")
    assert '[functions.weather:0]{"city": "Oslo"}<|im_end|>' in bind(escapes).render(messages)
    concatenates = IDS.replace(
        "{{ c.function.arguments if c.function.arguments is string else c.function.arguments | tojson }}",
        "{{ '```json\n' + c.function.arguments }}",
    )
    assert concatenates != IDS != escapes
    objects = parse(USER, calling({"city": "Oslo"}), RESULT, ANSWER)
    for given, text in ((messages, ARGUMENTS), (objects, '{"city": "Oslo"}')):
        assert "json\n" + text in bind(concatenates).render(given)


def test_developer_is_system_for_a_template_that_does_not_know_it(
    bind: Callable[[str], BoundTemplate],
) -> None:
    messages = parse({"role": "developer", "content": "Brief."}, USER, ANSWER)
    assert bind(CHATML).render(messages).startswith("<|im_start|>system\nBrief.")


def test_changed_message_is_rendered_as_it_is_now(bind: Callable[[str], BoundTemplate]) -> None:
    messages = parse({**USER, "date": "today"}, {**ANSWER, "channel": "final"})
    messages[0] = replace(messages[0], content="Snow?")
    source = IDS.replace("{{ m.content", "{{ m.date }} {{ m.content")
    assert "today Snow?<|im_end|>" in bind(source).render(messages)


@pytest.mark.parametrize("content", ["<think>Look up.</think>No.", "<think>\n\nLook up.\n</think>\n\nNo."])
def test_thought_in_the_content_is_verbatim_for_a_template_that_does_not_read_reasoning(
    content: str, bind: Callable[[str], BoundTemplate]
) -> None:
    text = bind(CHATML).render(parse(USER, {"role": "assistant", "content": content}))
    assert text.endswith(f"assistant\n{content}<|im_end|>\n")


def test_content_under_the_key_of_sharegpt_is_rendered(bind: Callable[[str], BoundTemplate]) -> None:
    turns = [{"role": turn["role"], "value": turn["content"]} for turn in (USER, ANSWER)]
    messages = formats.sharegpt({"conversations": turns})
    assert isinstance(messages, list)
    assert bind(CHATML).render(messages) == bind(CHATML).render(parse(USER, ANSWER))


def test_calls_in_parts_are_rendered_next_to_an_empty_list_of_calls(
    bind: Callable[[str], BoundTemplate],
) -> None:
    call = {"id": "functions.weather:0", "name": "weather", "arguments": {"city": "Oslo"}}
    part = {"type": "tool_call", "value": json.dumps(call)}
    turn = {"role": "assistant", "content": [part]}
    with_list = bind(IDS).render(parse(USER, {**turn, "tool_calls": []}))
    assert with_list == bind(IDS).render(parse(USER, turn))
    assert "Oslo" in with_list


def test_thought_without_its_first_tag_is_verbatim_too(bind: Callable[[str], BoundTemplate]) -> None:
    output = "Use </think> to close."
    assert (
        bind(CHATML)
        .render(formats.alpaca({"instruction": "x", "output": output}))
        .endswith(f"assistant\n{output}<|im_end|>\n")
    )


def test_value_that_is_not_json_raises_if_the_template_reads_its_key(
    bind: Callable[[str], BoundTemplate],
) -> None:
    messages = parse({**USER, "name": "Ann", "seen": date(2030, 1, 1)}, ANSWER)
    assert "Ann\nRain?" in bind(IDS).render(messages)
    with pytest.raises(TemplateError) as error:
        bind(IDS + "{{ messages[0].seen }}").render(messages)
    assert error.value.got == date(2030, 1, 1)


@pytest.mark.parametrize("name", ["internlm2_chat", "llama3_1_chat", "qwen2_5_chat", "qwen3"])
def test_library_writes_a_call_without_content(name: str, bind: Callable[[str], BoundTemplate]) -> None:
    template, tools = (
        bind(SOURCES[name]),
        [{"type": "function", "function": {"name": "weather", "parameters": {}}}],
    )
    turns = [USER, calling({"city": "Oslo"}), RESULT, ANSWER]
    empty = template.render(parse(USER, {**turns[1], "content": ""}, *turns[2:]), tools=tools)
    assert template.render(parse(*turns), tools=tools) == empty


@pytest.mark.parametrize(
    "message",
    [
        Message("user", "Hi", is_target=True),
        Message("system", "Hi", reasoning="because"),
        Message("user", "Hi", tool_calls=(ToolCall("f", {}),)),
    ],
)
def test_check_messages_refuses_what_only_the_assistant_can_do(message: Message) -> None:
    with pytest.raises(TemplateError) as error:
        check_messages([message], ())
    assert (error.value.key, error.value.got, error.value.expected) == (
        "messages",
        message.role,
        "assistant",
    )


def test_check_messages_refuses_an_empty_conversation_and_objects_in_arguments() -> None:
    with pytest.raises(TemplateError) as error:
        check_messages([], ())
    assert error.value.key == "messages"
    value = object()
    with pytest.raises(TemplateError) as error:
        check_messages([Message("assistant", "", tool_calls=(ToolCall("f", {"a": [value]}),))], ())
    assert error.value.got is value


def test_check_messages_returns_tools_as_plain_json() -> None:
    tools = [{"function": {"name": "f", "parameters": ("a", 1, None)}}]
    assert check_messages([Message("user", "Hi")], tools) == [
        {"function": {"name": "f", "parameters": ["a", 1, None]}}
    ]

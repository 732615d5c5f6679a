"""Tools, calls, results and reasoning: the documented texts of the families that have them."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from xft.errors import TemplateError
from xft.registry import resolve
from xft.templates import SOURCES
from xft.types import Message, ToolCall

SPECIALS = ("<|im_start|>", "<|im_end|>", "<|eot_id|>")
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Weather of a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
CLOCK = {
    "type": "function",
    "function": {"name": "get_time", "parameters": {"type": "object", "properties": {}}},
}
WEATHER_JSON = json.dumps(WEATHER)
CLOCK_JSON = json.dumps(CLOCK)
SYSTEM = {"role": "system", "content": "Be brief."}
QUESTION = {"role": "user", "content": "Weather in Zürich?"}
RESULT = {"role": "tool", "content": '{"degrees": 20}', "name": "get_weather"}
ANSWER = {"role": "assistant", "content": "20 degrees."}


def call(content: str = "", *names: str) -> dict[str, Any]:
    """A turn that calls functions, as Jinja sees it."""
    arguments = {"city": "Zürich"}
    calls = [
        {"type": "function", "id": "", "function": {"name": name, "arguments": arguments}}
        for name in names or ("get_weather",)
    ]
    return {"role": "assistant", "content": content, "tool_calls": calls}


@pytest.fixture(scope="module")
def render(make_byte_tokenizer: Callable[..., Any]) -> Callable[..., str]:
    """What transformers makes of a source: ``render(name, turns, tools, **options)``."""
    tokenizer = make_byte_tokenizer(specials=SPECIALS)

    def text(name: str, turns: list[dict[str, Any]], tools: Any = None, **options: Any) -> str:
        return str(
            tokenizer.apply_chat_template(
                turns,
                tools=tools,
                chat_template=SOURCES[name],
                tokenize=False,
                return_dict=False,
                **options,
            )
        )

    return text


QWEN_TOOLS = f"""# Tools

You may call one or more functions to assist with the user query.

You are provided with function signatures within <tools></tools> XML tags:
<tools>
{WEATHER_JSON}
{CLOCK_JSON}
</tools>

For each function call, return a json object with function name and arguments within <tool_call></tool_call> XML tags:
<tool_call>
{{"name": <function-name>, "arguments": <args-json-object>}}
</tool_call><|im_end|>
"""
QWEN_TURNS = """<|im_start|>user
Weather in Zürich?<|im_end|>
<|im_start|>assistant
I look.
<tool_call>
{"name": "get_weather", "arguments": {"city": "Zürich"}}
</tool_call>
<tool_call>
{"name": "get_time", "arguments": {"city": "Zürich"}}
</tool_call><|im_end|>
<|im_start|>user
<tool_response>
{"degrees": 20}
</tool_response>
<tool_response>
noon
</tool_response><|im_end|>
"""
CALLS = [QUESTION, call("I look.", "get_weather", "get_time"), RESULT, {"role": "tool", "content": "noon"}]


def test_qwen2_5(render: Callable[..., str]) -> None:
    default = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."
    turns = QWEN_TURNS + "<|im_start|>assistant\n20 degrees.<|im_end|>\n"
    text = render("qwen2_5_chat", [*CALLS, ANSWER], [WEATHER, CLOCK])
    assert text == f"<|im_start|>system\n{default}\n\n{QWEN_TOOLS}{turns}"
    text = render("qwen2_5_chat", [SYSTEM, *CALLS, ANSWER], [WEATHER, CLOCK])
    assert text == f"<|im_start|>system\nBe brief.\n\n{QWEN_TOOLS}{turns}"
    text = render("qwen2_5_chat", [QUESTION, call()])
    assert text.endswith(
        '<|im_start|>assistant\n<tool_call>\n{"name": "get_weather", "arguments": {"city": "Zürich"}}\n'
        "</tool_call><|im_end|>\n"
    )


def test_qwen3(render: Callable[..., str]) -> None:
    turns = QWEN_TURNS + "<|im_start|>assistant\n<think>\n\n</think>\n\n20 degrees.<|im_end|>\n"
    text = render("qwen3", [*CALLS, ANSWER], [WEATHER, CLOCK])
    assert text == f"<|im_start|>system\n{QWEN_TOOLS}{turns}"
    text = render("qwen3", [SYSTEM, *CALLS, ANSWER], [WEATHER, CLOCK])
    assert text == f"<|im_start|>system\nBe brief.\n\n{QWEN_TOOLS}{turns}"


def test_qwen3_shows_the_reasoning_behind_the_last_question_only(render: Callable[..., str]) -> None:
    first = {"role": "assistant", "content": "Two.", "reasoning_content": "Count."}
    second = {"role": "assistant", "content": "Three.", "reasoning_content": "Add."}
    text = render(
        "qwen3", [{"role": "user", "content": "1+1?"}, first, {"role": "user", "content": "And 1?"}, second]
    )
    assert text == (
        "<|im_start|>user\n1+1?<|im_end|>\n<|im_start|>assistant\nTwo.<|im_end|>\n"
        "<|im_start|>user\nAnd 1?<|im_end|>\n"
        "<|im_start|>assistant\n<think>\nAdd.\n</think>\n\nThree.<|im_end|>\n"
    )


def test_qwen3_asks_for_an_answer_without_thinking(render: Callable[..., str]) -> None:
    asked = render("qwen3", [QUESTION], add_generation_prompt=True, enable_thinking=False)
    assert asked.endswith("<|im_start|>assistant\n<think>\n\n</think>\n\n")


LLAMA3_1_HEAD = (
    "<s><|start_header_id|>system<|end_header_id|>\n\nEnvironment: ipython\n"
    "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n{}<|eot_id|>"
    "<|start_header_id|>user<|end_header_id|>\n\n"
    "Given the following functions, please respond with a JSON for a function call with its proper "
    "arguments that best answers the given prompt.\n\n"
    'Respond in the format {{"name": function name, "parameters": dictionary of argument name and its '
    "value}}.Do not use variables.\n\n"
)
LLAMA3_1_TOOL = """{
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Weather of a city",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {
                    "type": "string"
                }
            },
            "required": [
                "city"
            ]
        }
    }
}

"""
LLAMA3_1_TURNS = (
    "Weather in Zürich?<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
    '{"name": "get_weather", "parameters": {"city": "Zürich"}}<|eot_id|>'
    '<|start_header_id|>ipython<|end_header_id|>\n\n"{\\"degrees\\": 20}"<|eot_id|>'
    "<|start_header_id|>assistant<|end_header_id|>\n\n20 degrees.<|eot_id|>"
)


def test_llama3_1(render: Callable[..., str]) -> None:
    turns = [QUESTION, call(), RESULT, ANSWER]
    text = render("llama3_1_chat", turns, [WEATHER])
    assert text == LLAMA3_1_HEAD.format("") + LLAMA3_1_TOOL + LLAMA3_1_TURNS
    text = render("llama3_1_chat", [SYSTEM, *turns], [WEATHER])
    assert text == LLAMA3_1_HEAD.format("Be brief.") + LLAMA3_1_TOOL + LLAMA3_1_TURNS


def test_llama3_1_takes_another_date(render: Callable[..., str]) -> None:
    text = render("llama3_1_chat", [QUESTION], date_string="01 Jan 2026")
    assert "Today Date: 01 Jan 2026\n\n<|eot_id|>" in text


INTERNLM2_TURNS = (
    "<|im_start|>user\nWeather in Zürich?<|im_end|>\n"
    "<|im_start|>assistant\nI look.<|action_start|><|plugin|>\n"
    '{"name": "get_weather", "parameters": {"city": "Zürich"}}<|action_end|><|im_end|>\n'
    '<|im_start|>environment name=<|plugin|>\n{"degrees": 20}<|im_end|>\n'
    "<|im_start|>assistant\n20 degrees.<|im_end|>\n"
)


def test_internlm2(render: Callable[..., str]) -> None:
    tools = json.dumps([WEATHER["function"], CLOCK["function"]])
    described = f"<|im_start|>system name=<|plugin|>\n{tools}<|im_end|>\n"
    turns = [QUESTION, call("I look."), RESULT, ANSWER]
    assert render("internlm2_chat", turns, [WEATHER, CLOCK]) == f"<s>{described}{INTERNLM2_TURNS}"
    assert (
        render("internlm2_chat", [SYSTEM, *turns], [WEATHER, CLOCK])
        == f"<s><|im_start|>system\nBe brief.<|im_end|>\n{described}{INTERNLM2_TURNS}"
    )


@pytest.mark.parametrize(
    ("name", "turns", "rule"),
    [
        ("llama3_1_chat", [QUESTION, call("", "a", "b")], "one tool call per message"),
        ("llama3_1_chat", [ANSWER, QUESTION], "must be from the user"),
        ("internlm2_chat", [QUESTION, call("", "a", "b")], "one tool call per message"),
    ],
)
def test_what_a_family_with_tools_cannot_show_is_refused(
    name: str, turns: list[dict[str, Any]], rule: str, render: Callable[..., str]
) -> None:
    with pytest.raises(Exception, match=rule):
        render(name, turns, [WEATHER])


def test_text_beside_a_call_is_refused_where_llama3_1_would_leave_it_out(
    make_byte_tokenizer: Callable[..., Any],
) -> None:
    template = resolve("template", "llama3_1_chat")().bind(make_byte_tokenizer(specials=SPECIALS))
    calls = (ToolCall("get_weather", {"city": "Zürich"}),)
    question = Message("user", "Weather?")
    assert "Zürich" in template.render([question, Message("assistant", "", tool_calls=calls)])
    with pytest.raises(TemplateError):
        template.render([question, Message("assistant", "I look.", tool_calls=calls)])

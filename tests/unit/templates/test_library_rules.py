"""What holds for all templates of the library, and what each refuses."""

from collections.abc import Callable
from typing import Any

import pytest
from helpers.documented_texts import STOPS

from xft.errors import TemplateError
from xft.registry import resolve
from xft.templates import SOURCES, BoundTemplate
from xft.templates.library import DESCRIPTIONS
from xft.types import Message, ToolCall

SYSTEM = Message("system", "Be brief.")
TURNS = [
    turn
    for number in range(3)
    for turn in (Message("user", f"{number}?"), Message("assistant", f"{number}!", is_target=True))
]
NO_BOS = {
    "baichuan2_chat",
    "baichuan_chat",
    "chatglm2",
    "chatglm3",
    "chatml",
    "ernie4_5",
    "exaone",
    "glm4",
    "gpt_oss",
    "granite4",
    "minicpm",
    "minicpm3",
    "moss_sft",
    "phi3_chat",
    "phi4",
    "phi4_mini",
    "qwen2_5_chat",
    "qwen3",
    "qwen_chat",
    "seed_oss",
    "wizardcoder",
    "zephyr",
}
"""Their documented text has no BOS; where the tokenizer puts one, the encoder does."""
BOS_EACH_ROUND = {
    "code_llama_chat",
    "gemma_xtuner",
    "llama2_chat",
    "llama2_chat_xtuner",
    "minicpm_xtuner",
    "mistral_xtuner",
    "zephyr_xtuner",
}
NO_SYSTEM = {"chatglm2", "gemma", "minicpm_xtuner"}
ROUNDS_ONLY = {
    "baichuan2_chat",
    "baichuan_chat",
    "chatglm2",
    "code_llama_chat",
    "cohere_chat",
    "deepseek_v2_xtuner",
    "default",
    "gemma",
    "gemma3",
    "gemma_xtuner",
    "llama2_chat",
    "llama2_chat_xtuner",
    "minicpm_xtuner",
    "mistral",
    "mistral_v3",
    "mistral_v3_tekken",
    "mistral_xtuner",
    "mixtral",
    "moss_sft",
    "vicuna",
    "wizardcoder",
    "wizardlm",
    "zephyr_xtuner",
}
SYSTEM_LAST = {"mistral_v3", "mistral_v3_tekken"}
"""They write the system message before the last question."""
EARLIER_ENDS = {"gpt_oss": "<|end|>"}
"""Ends of earlier answers that differ from the end of the last."""
WITH_TOOLS = {
    *("granite4", "internlm2_chat", "llama3_1_chat", "mistral_v3", "mistral_v3_tekken", "phi4_mini"),
    *("qwen2_5_chat", "qwen3"),
}
TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}
CALL = {"type": "function", "function": {"name": "add", "arguments": {}}}


@pytest.fixture(scope="module")
def tokenizer(make_byte_tokenizer: Callable[..., Any]) -> Any:
    return make_byte_tokenizer(specials=STOPS)


@pytest.fixture(scope="module")
def bind(tokenizer: Any) -> Callable[[str], BoundTemplate]:
    return lambda name: resolve("template", name)().bind(tokenizer)


def jinja(name: str, tokenizer: Any, turns: list[dict[str, Any]], **options: Any) -> str:
    """What transformers makes of the source: tools and reasoning as Jinja sees them."""
    text = tokenizer.apply_chat_template(
        turns, chat_template=SOURCES[name], tokenize=False, return_dict=False, **options
    )
    assert isinstance(text, str)
    return text


@pytest.mark.parametrize("name", SOURCES)
def test_pieces_joined_are_the_text_and_trained_pieces_end_with_the_end_of_turn(
    name: str, bind: Callable[[str], BoundTemplate]
) -> None:
    template = bind(name)
    segments = template.segments(TURNS)
    assert "".join(each.text for each in segments) == template.render(TURNS)
    trained = [each.text for each in segments if each.is_target]
    assert len(trained) == 3
    for number, text in enumerate(trained):
        end = EARLIER_ENDS.get(name, template.end_of_turn) if number < 2 else template.end_of_turn
        assert text.endswith(f"{number}!{end}")


@pytest.mark.parametrize("name", SOURCES)
def test_bos(name: str, bind: Callable[[str], BoundTemplate]) -> None:
    text = bind(name).render(TURNS)
    expected = 0 if name in NO_BOS else 3 if name in BOS_EACH_ROUND else 1
    assert text.count("<s>") == expected
    assert text.startswith("<s>") == (expected > 0)
    assert "<s><s>" not in text


@pytest.mark.parametrize("name", SOURCES)
@pytest.mark.parametrize("last", [1, 3, 5])
def test_a_question_is_the_beginning_of_its_answered_text(
    name: str, last: int, bind: Callable[[str], BoundTemplate]
) -> None:
    template = bind(name)
    asked = template.render(TURNS[:last], generation=True)
    answered = template.render(TURNS[: last + 1])
    assert answered.startswith(asked)
    assert asked.endswith(template.generation_prompt)


@pytest.mark.parametrize("name", SOURCES)
def test_white_space_around_an_answer_hides_no_end_of_turn(
    name: str, bind: Callable[[str], BoundTemplate]
) -> None:
    template = bind(name)
    segments = template.segments([TURNS[0], Message("assistant", "\n Yes. \n", is_target=True)])
    (trained,) = [each.text for each in segments if each.is_target]
    assert "Yes." in trained
    assert trained.endswith(template.end_of_turn)


@pytest.mark.parametrize("name", sorted(set(SOURCES) - NO_SYSTEM))
def test_a_system_turn_is_shown_once_and_first(name: str, bind: Callable[[str], BoundTemplate]) -> None:
    text = bind(name).render([SYSTEM, *TURNS])
    assert text.count("Be brief.") == 1
    assert text.index("Be brief.") < text.index("2?" if name in SYSTEM_LAST else "0?")


@pytest.mark.parametrize("name", sorted(NO_SYSTEM))
def test_a_system_turn_is_refused_where_there_is_no_place(
    name: str, bind: Callable[[str], BoundTemplate]
) -> None:
    with pytest.raises(TemplateError, match="does not support system messages"):
        bind(name).render([SYSTEM, *TURNS])


@pytest.mark.parametrize("name", sorted(ROUNDS_ONLY))
@pytest.mark.parametrize(
    "turns",
    [[TURNS[0], *TURNS], TURNS[1:], [*TURNS, TURNS[1]], [*TURNS[:2], SYSTEM, *TURNS[2:]]],
    ids=["two questions", "answer first", "two answers", "system in the middle"],
)
def test_rounds_only(name: str, turns: list[Message], bind: Callable[[str], BoundTemplate]) -> None:
    with pytest.raises(TemplateError, match=r"must alternate|does not support system messages"):
        bind(name).render(turns)


@pytest.mark.parametrize("name", sorted(set(SOURCES) - ROUNDS_ONLY))
def test_two_questions_in_a_row_are_both_shown_elsewhere(
    name: str, bind: Callable[[str], BoundTemplate]
) -> None:
    text = bind(name).render([Message("user", "one more"), *TURNS])
    assert text.count("one more") == text.count("0?") == 1


@pytest.mark.parametrize("name", sorted(set(SOURCES) - WITH_TOOLS))
def test_tools_and_calls_are_refused_where_there_is_no_place(name: str, tokenizer: Any) -> None:
    turns: list[dict[str, Any]] = [{"role": "user", "content": "1+1?"}]
    call = {"role": "assistant", "content": "", "tool_calls": [CALL]}
    with pytest.raises(Exception, match="does not support tools"):
        jinja(name, tokenizer, turns, tools=[TOOL])
    with pytest.raises(Exception, match="does not support tool calls"):
        jinja(name, tokenizer, [*turns, call])
    with pytest.raises(Exception, match="does not support tool calls"):
        jinja(name, tokenizer, [*turns, {"role": "tool", "content": "2"}])


@pytest.mark.parametrize("name", SOURCES)
def test_reasoning_is_learned_before_the_answer(name: str, bind: Callable[[str], BoundTemplate]) -> None:
    answer = Message("assistant", "It is 2.", is_target=True, reasoning="One and one.")
    segments = bind(name).segments([TURNS[0], answer])
    (trained,) = [each.text for each in segments if each.is_target]
    assert 0 <= trained.index("One and one.") < trained.index("It is 2.")


@pytest.mark.parametrize("name", sorted(WITH_TOOLS))
def test_a_call_is_learned_with_its_end_of_turn(name: str, bind: Callable[[str], BoundTemplate]) -> None:
    template = bind(name)
    call = Message(
        "assistant", "", is_target=True, tool_calls=(ToolCall("add", {"first": 1}, "call00001"),)
    )
    answer = Message("assistant", "It is 2.", is_target=True)
    turns = [TURNS[0], call, Message("tool", "2", name="add", tool_call_id="call00001"), answer]
    segments = template.segments(turns, tools=[TOOL])
    assert "".join(each.text for each in segments) == template.render(turns, tools=[TOOL])
    called, answered = (each.text for each in segments if each.is_target)
    assert '"name": "add"' in called
    assert '{"first": 1}' in called
    assert called.endswith(template.end_of_turn)
    assert answered.endswith("It is 2." + template.end_of_turn)


@pytest.mark.parametrize("name", SOURCES)
def test_a_description_is_one_line(name: str) -> None:
    assert resolve("template", name).__doc__ == DESCRIPTIONS[name]
    assert "\n" not in DESCRIPTIONS[name]
    assert DESCRIPTIONS[name].endswith(".")
    assert len(DESCRIPTIONS[name].split()) > 3

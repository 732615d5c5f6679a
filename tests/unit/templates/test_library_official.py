"""Templates of the library against the tokenizers that bring the same template themselves."""

from importlib.util import find_spec
from itertools import product
from pathlib import Path
from random import Random
from typing import Any

import pytest

from xft.templates import SOURCES

_TRL = find_spec("trl")
FOLDER = Path(_TRL.origin).parent / "chat_templates" if _TRL and _TRL.origin else None

CONTENTS = (
    "Hi",
    " spaces around \n",
    "中文 and 🦙",
    "",
    "<|im_end|> and <|eot_id|>",
    "<think>\nHm.\n</think>\n\nYes.",
    "\n\nleading breaks",
    'it\'s "quoted" \\n {{ jinja }}',
    "<tool_response>said by the user</tool_response>",
)
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "add",
            "description": "Add 'two' \"numbers\" – < 5 &",
            "parameters": {"type": "object", "properties": {"a": {"type": "number"}}},
        },
    },
    {"type": "function", "function": {"name": "now", "parameters": {"type": "object", "properties": {}}}},
]


def conversation(random: Random, with_calls: bool, system: bool) -> list[dict[str, Any]]:
    """One to four rounds, with calls and reasoning here and there."""

    def said() -> str:
        return random.choice(CONTENTS)

    turns: list[dict[str, Any]] = [{"role": "system", "content": said()}] if system else []
    for _ in range(random.randint(1, 4)):
        turns.append({"role": "user", "content": said()})
        if with_calls and random.random() < 0.6:
            calls = [
                {
                    "type": "function",
                    "id": "1",
                    "function": {"name": "add", "arguments": {"a": [1.5, None, said()]}},
                }
                for _ in range(random.randint(1, 2))
            ]
            turns.append({"role": "assistant", "content": said(), "tool_calls": calls})
            turns += [{"role": "tool", "content": said()} for _ in calls]
        turns.append({"role": "assistant", "content": said()})
        if with_calls and random.random() < 0.5:
            turns[-1]["reasoning_content"] = said()
    return turns


def both(
    tokenizer: Any, name: str, turns: list[dict[str, Any]], **options: Any
) -> tuple[list[int], list[int]]:
    """Ids by the source of the library and by the tokenizer's own template."""
    ours = tokenizer.apply_chat_template(
        turns, chat_template=SOURCES[name], tokenize=True, return_dict=False, **options
    )
    return ours, tokenizer.apply_chat_template(turns, tokenize=True, return_dict=False, **options)


@pytest.mark.parametrize(("system", "tools"), product([False, True], [None, TOOLS]))
def test_qwen3_is_the_official_template(system: bool, tools: Any, qwen3_tokenizer: Any) -> None:
    random = Random(3)
    for _ in range(50):
        turns = conversation(random, with_calls=True, system=system)
        ours, official = both(qwen3_tokenizer, "qwen3", turns, tools=tools)
        assert ours == official
        for thinking in (True, False):
            ours, official = both(
                qwen3_tokenizer,
                "qwen3",
                turns[:-1],
                tools=tools,
                add_generation_prompt=True,
                enable_thinking=thinking,
            )
            assert ours == official


@pytest.mark.parametrize("system", [False, True])
def test_llama3_is_the_official_template(system: bool, llama3_tokenizer: Any) -> None:
    """The official one opens an answer behind every text, whether one is asked for or not."""
    random = Random(3)
    for _ in range(50):
        turns = conversation(random, with_calls=False, system=system)
        ours, official = both(llama3_tokenizer, "llama3_chat", turns, add_generation_prompt=True)
        assert ours == official


def test_chatml_is_the_template_of_smollm2_behind_a_system_turn(smollm2_tokenizer: Any) -> None:
    """Without a system turn SmolLM2 puts a text of its own."""
    random = Random(3)
    for _ in range(50):
        turns = conversation(random, with_calls=False, system=True)
        ours, official = both(smollm2_tokenizer, "chatml", turns)
        assert ours == official
        ours, official = both(smollm2_tokenizer, "chatml", turns[:-1], add_generation_prompt=True)
        assert ours == official


@pytest.mark.skipif(FOLDER is None, reason="needs the templates that TRL ships")
@pytest.mark.parametrize(("name", "file"), [("gpt_oss", "gptoss"), ("lfm2", "lfm2"), ("lfm2", "lfm2_v2")])
def test_template_is_that_of_trl(name: str, file: str, make_byte_tokenizer: Any) -> None:
    assert FOLDER is not None
    official = (FOLDER / f"{file}.jinja").read_text(encoding="utf-8")
    tokenizer = make_byte_tokenizer()
    random = Random(3)
    for _ in range(50):
        turns = conversation(random, with_calls=False, system=random.random() < 0.5)
        if turns[0]["role"] == "system":
            turns[0]["content"] = "Be brief."  # the official templates leave out an empty one
        if name == "gpt_oss" and random.random() < 0.5:
            turns[-1]["thinking"] = "Hm."
        for options in (
            {"conversation": turns},
            {"conversation": turns[:-1], "add_generation_prompt": True},
        ):
            ours, theirs = (
                tokenizer.apply_chat_template(chat_template=source, tokenize=False, **options)
                for source in (SOURCES[name], official)
            )
            assert ours == theirs

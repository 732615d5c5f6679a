"""Each template of the library against the text that the model's authors document."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest
from helpers.documented_texts import LLAMA2, MISTRAL, STOPS
from helpers.documented_texts import TEXTS as OFFICIAL
from helpers.documented_xtuner import XTUNER

from xft.registry import resolve
from xft.templates import SOURCES, BoundTemplate
from xft.types import Message

SYSTEM = Message("system", "Be brief.")
QUESTION = Message("user", "Hi")
TURNS = [
    QUESTION,
    Message("assistant", "Hello!", is_target=True),
    Message("user", "Bye"),
    Message("assistant", "See you.", is_target=True),
]
TEXTS = {**OFFICIAL, **XTUNER}
WITH_SYSTEM = [name for name, text in TEXTS.items() if text.system is not None]
NOW = datetime(2031, 5, 4)


@pytest.fixture(scope="module")
def bind(make_byte_tokenizer: Callable[..., Any]) -> Callable[[str], BoundTemplate]:
    """Bind a template by name, as a config does, to a tokenizer that knows what ends an answer."""
    tokenizer = make_byte_tokenizer(specials=STOPS)
    return lambda name: resolve("template", name)().bind(tokenizer, NOW)


def test_every_template_of_the_library_stands_here() -> None:
    assert set(TEXTS) == set(SOURCES)


@pytest.mark.parametrize("name", TEXTS)
def test_one_round(name: str, bind: Callable[[str], BoundTemplate]) -> None:
    assert bind(name).render(TURNS[:2]) == TEXTS[name].single


@pytest.mark.parametrize("name", TEXTS)
def test_two_rounds(name: str, bind: Callable[[str], BoundTemplate]) -> None:
    assert bind(name).render(TURNS) == TEXTS[name].multi


@pytest.mark.parametrize("name", WITH_SYSTEM)
def test_with_a_system_turn(name: str, bind: Callable[[str], BoundTemplate]) -> None:
    assert bind(name).render([SYSTEM, *TURNS[:2]]) == TEXTS[name].system


@pytest.mark.parametrize("name", TEXTS)
def test_the_text_that_asks_for_an_answer(name: str, bind: Callable[[str], BoundTemplate]) -> None:
    assert bind(name).render([QUESTION], generation=True) == TEXTS[name].asked


@pytest.mark.parametrize("name", TEXTS)
def test_trained_pieces(name: str, bind: Callable[[str], BoundTemplate]) -> None:
    """The space that Llama 2 and Mistral write before an answer may be learned with it or not."""
    segments = bind(name).segments(TURNS)
    assert "".join(each.text for each in segments) == TEXTS[name].multi
    learned = [each.text for each in segments if each.is_target]
    if TEXTS[name] in (LLAMA2, MISTRAL):
        learned = [each.removeprefix(" ") for each in learned]
    assert learned == list(TEXTS[name].trained)


@pytest.mark.parametrize("name", TEXTS)
def test_stop_token(name: str, bind: Callable[[str], BoundTemplate]) -> None:
    assert bind(name).stop_token == TEXTS[name].stop.splitlines()[-1]

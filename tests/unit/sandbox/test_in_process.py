"""Templates of strangers: what could run forever or fill the memory ends with an error."""

import re
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from typing import Any

import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment

from xft.errors import TemplateError
from xft.sandbox import isolation
from xft.sandbox.environment import environment
from xft.sandbox.in_process import InProcessEnvironment, is_supported
from xft.sandbox.operation_limits import NeedsIsolation
from xft.templates import SOURCES
from xft.templates.jinja_env import TemplateRenderer
from xft.types import Message

LAUGHS = "{% set a = ['ha' * 1000] %}" + "{% set a = [a, a, a, a, a, a, a, a, a, a] %}" * 9
DOUBLING = "{% set ns = namespace(s='ab') %}{% for i in range(60) %}"
BOMBS = {
    "long range": "{% for i in range(10**9) %}{% endfor %}",
    "nested loops": "{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}",
    "filtered loops": "{% for i in range(100000) %}{% for j in range(100000) if j < 0 %}{% endfor %}{% endfor %}",
    "repeated text": "{{ 'a' * 10**10 }}",
    "repeated variable": "{% set n = messages | length * 10**10 %}{{ messages[0].content * n }}",
    "repeated list": "{{ (['a' * 1000] * 10**9) | join }}",
    "power": "{{ 9 ** 9 ** 9 }}",
    "sum of texts": DOUBLING + "{% set ns.s = ns.s + ns.s %}{% endfor %}{{ ns.s }}",
    "joined texts": DOUBLING + "{% set ns.s = ns.s ~ ns.s %}{% endfor %}{{ ns.s }}",
    "captured text": DOUBLING
    + "{% set t %}{{ ns.s }}{{ ns.s }}{% endset %}{% set ns.s = t %}{% endfor %}{{ ns.s }}",
    "replaced text": DOUBLING + "{% set ns.s = ns.s.replace('', ns.s) %}{% endfor %}{{ ns.s }}",
    "joined characters": DOUBLING + "{% set ns.s = ns.s | join(ns.s) %}{% endfor %}{{ ns.s }}",
    "escaped text": "{% set ns = namespace(s='\"') %}{% for i in range(60) %}{% set ns.s = ns.s | tojson %}{% endfor %}",
    "format": "{{ '%2000000000d' % 1 }}",
    "format filter": "{{ '%2000000000d' | format(1) }}",
    "format method": "{{ '{:4000000000}'.format(1) }}",
    "center": "{{ 'a' | center(10**10) }}",
    "ljust": "{{ messages[0].content.ljust(10**10) }}",
    "indent": "{{ messages | tojson(indent=10**10) }}",
    "batch": "{{ 'a' | batch(10**10, 'b') | list }}",
    "lorem ipsum": "{{ lipsum(n=10**9) }}",
    "recursive macro": "{% macro f(n) %}{{ f(n + 1) if n < 90 }}{{ f(n + 1) if n < 90 }}{% endmacro %}{{ f(0) }}",
    "endless macro": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "billion laughs": LAUGHS + "{{ a }}",
    "namespaces": "{% set a = namespace(x='h' * 10**7) %}"
    + "{% set a = namespace(x=a, y=a) %}" * 40
    + "{{ a.x.y ~ 1 }}",
    "date": "{{ strftime_now('%1000000000d') }}",
}


@pytest.mark.parametrize("name", BOMBS)
def test_template_that_explodes_ends(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With an error, or with a text of ordinary length if a limit of Jinja's cuts it."""
    monkeypatch.setattr(isolation, "MAX_SECONDS", 2.0)
    start = time.monotonic()
    text = ""
    with suppress(TemplateError):
        text = TemplateRenderer(BOMBS[name], {}, datetime(2026, 1, 1)).render([Message("user", "Hi")])
    assert len(text) < 1 << 27
    assert time.monotonic() - start < 60


@pytest.mark.parametrize("name", sorted(SOURCES))
def test_templates_of_the_library_need_no_isolation(name: str) -> None:
    assert is_supported(environment(InProcessEnvironment).parse(SOURCES[name]))


def test_templates_of_model_families_need_no_isolation(qwen3_tokenizer: Any, llama3_tokenizer: Any) -> None:
    for tokenizer in (qwen3_tokenizer, llama3_tokenizer):
        assert is_supported(environment(InProcessEnvironment).parse(tokenizer.chat_template))


EXPRESSIONS = """
a + b + 'c' | n + 1 + 2 | 1.5 + n | a ~ n ~ none | '<b>' + ('<i>' | safe) + '<u>' | n % 2 | n * 3 | 2 ** n | -n
a.split('l') | a.replace('l', 'LL') | ', '.join(['x', 'y']) | a | replace('l', '') | {'x': 1} | tojson(indent=2)
a.split(sep='l', maxsplit=1) | missing + 1 | missing + a | a + missing | a + 1 | 1 + a | none + a | a.upper().title()
loop_text() | [1, 2] | sum | a | center(9) | [a, b] | '%s!' % a | '{}'.format(a) | {'a': b}.items() | list
""".replace("\n", " | ").split(" | ")


@pytest.mark.parametrize("expression", sorted({"{{ " + text + " }}" for text in EXPRESSIONS if text}))
def test_in_process_environment_gives_the_text_of_the_sandbox(expression: str) -> None:
    """Or raises the same error, or asks for isolation."""
    variables = {"a": "hello", "b": "B", "n": 5}
    env = environment(InProcessEnvironment)
    env.limit_filters()
    env.start()

    def result(render: Callable[[], str]) -> str:
        try:
            return render()
        except Exception as error:  # noqa: BLE001 - compared
            return f"{type(error).__name__}: {error}"

    bounded = result(lambda: env.from_string(expression).render(variables))
    plain = result(
        lambda: environment(ImmutableSandboxedEnvironment).from_string(expression).render(variables)
    )
    assert bounded in (plain, f"{NeedsIsolation.__name__}: ")


@pytest.mark.parametrize(
    "source",
    [
        "{{ d.key }}|{{ d.missing }}|{{ d.missing is defined }}|{{ d.items() | list }}|{{ d.keys }}",
        "{{ d.get('key') }}|{{ d._private }}|{{ d.__class__ }}|{{ d.update }}|{{ d.none_ is none }}",
        "{{ t.strip() }}|{{ t.upper() }}|{{ t.__class__ }}|{{ t.missing }}|{{ t.format is defined }}",
        "{% for x in [1, 2] %}{{ loop.index0 }}{{ loop.last }}{{ loop.length }}{{ loop._iterator }}{% endfor %}",
        "{% set ns = namespace(n=1, t='a', l=[1]) %}{{ ns.n }}{{ ns.t }}{{ ns.l }}{{ ns.missing }}{{ ns.__class__ }}",
    ],
)
def test_attributes_equal_those_of_the_sandbox_of_jinja(source: str) -> None:
    """Attributes that skip the checks of the sandbox have the same values."""
    variables = {"d": {"key": "k", "items": 1, "keys": "K", "_private": "p", "none_": None}, "t": " text "}
    expected = environment(ImmutableSandboxedEnvironment).from_string(source)
    env = environment(InProcessEnvironment)
    env.start()
    results = []
    for template in (expected, env.from_string(source)):
        try:
            results.append(template.render(variables))
        except Exception as error:  # noqa: BLE001 - the sandbox raises for some of them
            results.append(f"{type(error).__name__}: {error}")
    assert re.sub("0x[0-9a-f]+", "", results[1]) == re.sub("0x[0-9a-f]+", "", results[0])

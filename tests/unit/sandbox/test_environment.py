"""Environment of chat templates."""

import pytest
from jinja2.exceptions import SecurityError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from xft.sandbox.environment import environment


def _render(source: str, **variables: object) -> str:
    return environment(ImmutableSandboxedEnvironment).from_string(source).render(variables)


def test_json_is_not_escaped() -> None:
    assert _render("{{ a | tojson }}", a={"b": "<ä>"}) == '{"b": "<ä>"}'


def test_text_of_a_namespace_has_no_values() -> None:
    """Two namespaces that hold the previous one twice, and so on, would have an exponentially long text."""
    assert _render("{% set a = namespace(x=1) %}{{ a }}") == "<Namespace>"


@pytest.mark.parametrize(
    "source", ["{% set a = namespace(_x=1) %}", "{% set a = namespace() %}{% set a._x = 1 %}"]
)
def test_namespace_holds_no_internal_names(source: str) -> None:
    with pytest.raises(SecurityError):
        _render(source)

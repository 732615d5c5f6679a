"""Rendering in worker processes: texts, errors, limits, concurrent renderings."""

import threading
import time
from datetime import datetime

import pytest

from xft.sandbox import isolation
from xft.sandbox.isolation import RenderError, render_isolated

ENDLESS = "{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}"


def test_text_of_the_template_is_returned() -> None:
    variables = {"a": "ä\n€", "now": datetime(2026, 1, 2).strftime}
    assert render_isolated("{{ a * 2 }}{{ now('%Y') }}", variables) == "ä\n€ä\n€2026"


def test_error_of_the_template_is_raised_and_the_worker_kept() -> None:
    for _ in range(2):
        with pytest.raises(RenderError, match="no turns"):
            render_isolated("{{ raise_exception('no turns') }}", {})
    with pytest.raises(RenderError, match="expected token"):
        render_isolated("{{ a b }}", {})
    assert len(isolation._idle) == 1


def test_worker_that_takes_too_long_is_killed_and_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    render_isolated("x", {})
    monkeypatch.setattr(isolation, "MAX_SECONDS", 0.5)
    start = time.monotonic()
    with pytest.raises(RenderError, match="more than"):
        render_isolated(ENDLESS, {})
    assert time.monotonic() - start < 30
    monkeypatch.setattr(isolation, "MAX_SECONDS", 10.0)
    assert render_isolated("{{ 1 }}", {}) == "1"


def test_worker_that_needs_too_much_memory_gives_an_error() -> None:
    with pytest.raises(RenderError, match="memory"):
        render_isolated("{{ 'a' * 10**10 }}", {})


def test_slow_rendering_does_not_block_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolation, "MAX_SECONDS", 4.0)
    errors: list[Exception] = []

    def render_slowly() -> None:
        try:
            render_isolated(ENDLESS, {})
        except RenderError as error:
            errors.append(error)

    thread = threading.Thread(target=render_slowly)
    thread.start()
    assert render_isolated("{{ 1 }}", {}) == "1"
    assert thread.is_alive()
    thread.join(60)
    assert len(errors) == 1

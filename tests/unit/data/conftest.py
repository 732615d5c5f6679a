"""Fixtures of the tests of data."""

from typing import Any

import pytest

from xft.templates import SOURCES, BoundTemplate, ChatTemplate


@pytest.fixture(scope="session")
def chatml(byte_tokenizer: Any) -> BoundTemplate:
    """ChatML with a tokenizer in which each byte is a token."""
    return ChatTemplate(SOURCES["chatml"]).bind(byte_tokenizer)

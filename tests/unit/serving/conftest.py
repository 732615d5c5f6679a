"""Fixtures of the serving tests."""

from typing import Any

import pytest
from helpers.generators import tiny_generator

from xft.models import TextGenerator


@pytest.fixture(scope="package")
def generator(tmp_path_factory: pytest.TempPathFactory, make_byte_tokenizer: Any) -> TextGenerator:
    """Generator of a tiny random model."""
    return tiny_generator(tmp_path_factory.mktemp("server") / "model", make_byte_tokenizer)

"""Fixtures of the serving tests."""

from collections.abc import Iterator
from typing import Any

import pytest
from helpers.generators import tiny_generator

from xft.models import TextGenerator
from xft.serving.server.batcher import Batcher
from xft.serving.server.service import Limits, Service


@pytest.fixture(scope="package")
def generator(tmp_path_factory: pytest.TempPathFactory, make_byte_tokenizer: Any) -> TextGenerator:
    """Generator of a tiny random model."""
    return tiny_generator(tmp_path_factory.mktemp("server") / "model", make_byte_tokenizer)


@pytest.fixture
def service(generator: TextGenerator) -> Iterator[Service]:
    """Service with the tiny model, as ``m``."""
    batcher = Batcher(max_batch_size=4, max_queue_size=64)
    yield Service({"m": generator}, batcher, Limits(4096, 2000, 4))
    batcher.close()

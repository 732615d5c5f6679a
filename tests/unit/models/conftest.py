"""Fixtures of several tests of models."""

from pathlib import Path
from typing import Any

import pytest
from helpers.tiny import save_tiny


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, byte_tokenizer: Any) -> Path:
    return save_tiny(tmp_path_factory.mktemp("models") / "base", "llama", byte_tokenizer)

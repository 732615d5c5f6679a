"""A tiny model with a tokenizer like that of SmolLM2, shared by all commands that are tried."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.preferences import write_reward_config
from helpers.tiny import ROOT, save_tiny, small_vocabulary, write_config, write_rows
from openai import OpenAI

from xft.cli import main


@pytest.fixture(scope="session")
def tiny_tokenizer(smollm2_tokenizer: Any) -> Any:
    """SmolLM2's template, special tokens and way of cutting texts, with few tokens."""
    return small_vocabulary(smollm2_tokenizer)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory, tiny_tokenizer: Any) -> Path:
    return save_tiny(tmp_path_factory.mktemp("models") / "tiny", "llama", tiny_tokenizer)


@pytest.fixture
def tiny_run(tmp_path: Path, tiny_model: Path) -> Path:
    """A config for the tiny model with 24 rows beside it."""
    rows = write_rows(tmp_path / "rows.jsonl", 24)
    return write_config(tmp_path / "tiny.py", tiny_model, rows)


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """The run folder of a run that ended, for commands that only read it."""
    return _finish(tmp_path_factory.mktemp("finished"), tiny_model)


@pytest.fixture(scope="session")
def talkative_model(tmp_path_factory: pytest.TempPathFactory, smollm2_tokenizer: Any) -> Path:
    """One that talks on and on when it draws among its 49,152 tokens, of which one ends an answer."""
    return save_tiny(tmp_path_factory.mktemp("models") / "talkative", "llama", smollm2_tokenizer)


@pytest.fixture(scope="session")
def talkative_run(tmp_path_factory: pytest.TempPathFactory, talkative_model: Path) -> Path:
    """The same of that model, for answers that are broken off."""
    return _finish(tmp_path_factory.mktemp("talkative"), talkative_model)


def _finish(folder: Path, model: Path) -> Path:
    rows = write_rows(folder / "rows.jsonl", 24)
    config = write_config(folder / "tiny.py", model, rows)
    assert main(["train", str(config), "--work-dir", str(folder / "run")]) == 0
    return folder / "run"


@pytest.fixture(scope="session")
def reward_run(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """The same of a reward model: LoRA with dropout, and checkpoints on the way."""
    folder = tmp_path_factory.mktemp("reward")
    extra = (
        "adapter.update(lora_dropout=0.1)\nhooks['checkpoint'].update(interval=4, save_total_limit=99)\n"
    )
    config = write_reward_config(folder, tiny_model, extra + "training.update(epochs=4)\n")
    assert main(["train", str(config), "--work-dir", str(folder / "run")]) == 0
    return folder / "run"


@pytest.fixture(scope="session")
def address(talkative_run: Path) -> Iterator[str]:
    command = [sys.executable, "-m", "xft", "serve", str(talkative_run), "--port", "0"]
    options = [
        "--name",
        "tiny",
        "--max-new-tokens",
        "400",
        "--max-batch-size",
        "4",
        "--max-queue-size",
        "12",
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        [*command, *options], stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        said = process.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:\d+", said)
        assert found is not None, said
        try:
            yield found.group()
        finally:
            process.terminate()
            process.wait(30)


@pytest.fixture(scope="session")
def client(address: str) -> OpenAI:
    return OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0, timeout=120)

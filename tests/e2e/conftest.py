"""A tiny model with a tokenizer like that of SmolLM2, shared by all commands that are tried."""

import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from helpers.forked import ForkedProcess, start_verification
from helpers.preferences import write_reward_config
from helpers.tiny import save_tiny, small_vocabulary, write_config, write_rows
from openai import OpenAI

from xft.cli import main
from xft.export.verify import launcher


@pytest.fixture(scope="session", autouse=True)
def forked_verification() -> Iterator[None]:
    """Verify saved models in forks, and in new interpreters where ``test_verify.py`` says so."""
    with pytest.MonkeyPatch.context() as patch:
        forks = SimpleNamespace(**{**vars(subprocess), "Popen": start_verification})
        patch.setattr(launcher, "subprocess", forks)
        yield


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
def address(talkative_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    options = [
        "--port",
        "0",
        "--name",
        "tiny",
        "--max-new-tokens",
        "400",
        "--max-batch-size",
        "4",
        "--max-queue-size",
        "12",
    ]
    script = tmp_path_factory.mktemp("serve") / "serve.py"
    script.write_text("import sys\nfrom xft.cli import main\nsys.exit(main(['serve', *sys.argv[1:]]))\n")
    process = ForkedProcess(script, str(talkative_run), *options)
    try:
        while (line := re.search(r"http://127\.0\.0\.1:\d+", process.stdout)) is None:
            assert process.poll() is None, process.stderr
            time.sleep(0.05)
        yield line.group()
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


@pytest.fixture(scope="session")
def client(address: str) -> OpenAI:
    return OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0, timeout=120)

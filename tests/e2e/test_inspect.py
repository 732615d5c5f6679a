"""`inspect-data` as a user types it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tiny import ROOT, SHARED, write_config

from xft.cli import main


def test_json_gives_what_the_model_sees(tiny_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect-data", str(tiny_run), "--num", "4", "--json"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    for line in lines:
        sample = json.loads(line)
        assert len(sample["input_ids"]) == len(sample["labels"])
        assert sample["text"].startswith("<|im_start|>system")
        trained = [label for label in sample["labels"] if label != -100]
        assert trained[-1] == 2  # <|im_end|>
        assert all(
            label in (-100, token)
            for token, label in zip(sample["input_ids"], sample["labels"], strict=True)
        )


def test_without_a_terminal_trained_tokens_stand_in_brackets(tiny_run: Path) -> None:
    command = [sys.executable, str(ROOT / "tools" / "inspect_data.py"), str(tiny_run), "--split", "val"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert "<|im_start|>assistant\n[[Number" in done.stdout
    assert "<|im_end|>]]" in done.stdout
    assert "24 rows read" in done.stdout
    assert "\033[" not in done.stdout


@pytest.mark.parametrize(
    ("file", "options", "rows"),
    [
        ("alpaca_en_demo.json", [], 999),
        ("alpaca_zh_demo.json", [], 1000),
        ("identity.json", [], 91),
        ("c4_demo.jsonl", ["data.type=text", "data.format=text"], 300),
        ("wiki_demo.txt", ["data.type=text", "data.format=text"], 30),
    ],
)
def test_real_data_passes_whole_and_the_books_close(
    tiny_model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    file: str,
    options: list[str],
    rows: int,
) -> None:
    if not (SHARED / "data" / file).is_file():
        pytest.skip(f"{file} is absent: no real data stand beside this checkout")
    config = write_config(tmp_path / "c.py", tiny_model, SHARED / "data" / file)
    options = [*options, "data.max_length=2048", "data.val=0.05"]
    assert main(["inspect-data", str(config), "--num", "1", "--cfg-options", *options]) == 0
    printed = capsys.readouterr().out
    assert f"{rows:,} rows read" in printed
    assert "dropped" not in printed

"""What a user types first: it works, or the message names the exact fix."""

import csv
import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.tiny import save_tiny
from huggingface_hub import constants

from xft import cli
from xft.config import load_config
from xft.config.snapshot import save_snapshot
from xft.run_config.config import RunConfig
from xft.training import train as training

QA = [{"question": f"How many is {number}?", "answer": f"It is {number}."} for number in range(6)]
HUMAN = [{"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]}]
PAIRS = [{"prompt": "Hi", "chosen": "Hello", "rejected": "Bye"}]
LABELS = [{"prompt": "Hi", "completion": "Hello", "label": True}]


def write(file: Path, rows: list[dict[str, Any]]) -> None:
    if file.suffix == ".csv":
        with file.open("w", newline="") as opened:
            writer = csv.DictWriter(opened, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    elif file.suffix == ".json":
        file.write_text(json.dumps(rows))
    else:
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, byte_tokenizer: Any) -> Iterator[Path]:
    """A folder with a model, a config and rows of many kinds."""
    path = tmp_path_factory.mktemp("first")
    save_tiny(path / "tiny", "llama", byte_tokenizer)
    write(path / "rows.jsonl", QA)
    write(path / "rows.csv", QA)
    write(path / "chat.json", HUMAN)
    write(path / "pairs.jsonl", PAIRS)
    write(path / "labels.jsonl", LABELS)
    write(path / "weird.csv", [{"frage": "Hi", "antwort": "Hallo"}])
    (path / "rows").mkdir()
    write(path / "rows" / "a.jsonl", QA)
    (path / "empty.jsonl").write_text("")
    (path / "rows.xlsx").write_text("PK")
    (path / "book.txt").write_text("Once upon a time\n\nthere was a model\n")
    (path / "other.yaml").write_text("model_name_or_path: a/b\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XFT_CACHE", str(path / "cache"))
        patch.setattr(constants, "HF_HUB_OFFLINE", True)
        save_snapshot(RunConfig)
        patch.chdir(path)
        values = load_config("smollm2_lora") | {"eval_prompts": []}
        values["data"] = {"type": "instruction", "path": "rows.jsonl"}
        (path / "mine.py").write_text("".join(f"{key} = {value!r}\n" for key, value in values.items()))
        yield path


@pytest.fixture
def trained(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The configs that a command would train with."""
    configs: list[dict[str, Any]] = []
    monkeypatch.chdir(folder)
    monkeypatch.setattr(cli, "localize", lambda text: text)

    def train(options: training.TrainOptions) -> None:
        from xft.config import build, check, parse_overrides

        config = load_config(options.config, parse_overrides(options.overrides))
        check(config, RunConfig)
        build(config, RunConfig)
        configs.append(config)

    monkeypatch.setattr(training, "train", train)
    return configs


@pytest.mark.parametrize(
    "words",
    [
        "smollm2_lora",
        "smollm2_lora --data rows.csv",
        "smollm2_lora data.path=rows.jsonl",
        "smollm2_lora --data chat.json",
        "smollm2_lora --data rows",
        "smollm2_lora --data 'rows/*.jsonl'",
        "smollm2_lora data.path=[rows.jsonl,rows.csv]",
        "smollm2_lora --data rows.jsonl#3 optimizer.lr=1e-4 training.epochs=2",
        "smollm2_lora adapter.target_modules=[q_proj,v_proj]",
        "smollm2_lora --data weird.csv data.format=dict(type=columns,user=frage,assistant=antwort)",
        "smollm2_lora --data weird.csv \"data.format={'type':'columns','user':'frage','assistant':'antwort'}\"",
        "smollm2_lora --cfg-options training.max_steps=3 --seed 1",
        "training.max_steps=3 smollm2_lora",
        "mine.py",
        "./mine.py --work_dir out",
        "--model ./tiny --data rows.csv --method lora",
        "./tiny --data rows.csv",
        "tiny --data pairs.jsonl --method dpo",
        "tiny --data labels.jsonl --method kto",
        "tiny --data book.txt --method pretrain",
        "qwen3_8b --data rows.jsonl",
        "qwen3_8b --method orpo --data pairs.jsonl",
        "--model Qwen/Qwen2.5-0.5B-Instruct --data rows.csv --method qlora",
    ],
)
def test_it_works(trained: list[dict[str, Any]], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["train", *shlex.split(words)]) == 0, capsys.readouterr().err
    assert len(trained) == 1


@pytest.mark.parametrize(
    ("words", "fix"),
    [
        ("", "xft train --model MODEL --data FILE"),
        ("smollm2_lor", "'smollm2_lora'"),
        ("qwen3-8b", "'qwen3_8b'"),
        ("Qwen3_8B", "'qwen3_8b'"),
        ("configs/smollm2_lora.py", "smollm2_lora, without a folder"),
        ("rows.jsonl", "--data rows.jsonl"),
        ("other.yaml", "xft import other.yaml"),
        ("absent.py", "xft list configs"),
        ("tiny", "--data"),
        ("--model tiny --data rows.csv --method qloar", "'qlora'"),
        ("--model ./absent --data rows.csv", "owner/name of the hub"),
        ("smollm2_lora --data absent.csv", "data.path: absent.csv does not exist"),
        ("smollm2_lora --data rows.xlsx", ".csv"),
        ("tiny --data weird.csv", "user='frage', assistant='antwort'"),
        ("tiny --data pairs.jsonl --method lora", "--method dpo"),
        ("tiny --data labels.jsonl --method lora", "objective=kto"),
        ("tiny --data book.txt --method lora", "--method pretrain"),
        ("tiny --data rows.jsonl --method dpo", "--method qlora"),
        ("tiny --data chat.json --method pretrain", "--method qlora"),
        ("tiny --data empty.jsonl", "no rows"),
        ("smollm2_lora learning_rate=1e-4", "optimizer.lr"),
        ("smollm2_lora lr=1e-4", "optimizer.lr"),
        ("smollm2_lora epochs=3", "training.epochs"),
        ("smollm2_lora max_seq_length=512", "data.max_length"),
        ("smollm2_lora num_train_epochs=3", "training.epochs"),
        ("smollm2_lora data.max_lenght=9", "'max_length'"),
        ("smollm2_lora data.max_length=abc", "int in"),
        ("smollm2_lora training.epochs=0", "float in (0, 1e9]"),
        ("smollm2_lora model.path=./absent", "owner/name of the hub"),
        ("smollm2_lora adapter.r", "KEY=VALUE"),
        ("smollm2_lora --method orpo", "smollm2"),
        ("smollm2_lora --learning_rate 1e-4", "optimizer.lr=1e-4"),
        ("smollm2_lora --num_train_epochs 3", "training.epochs=3"),
        ("smollm2_lora --epochs 3", "training.epochs=3"),
        ("smollm2_lora --per_device_train_batch_size 4", "training.micro_batch_size=4"),
        ("smollm2_lora --cutoff_len 1024", "data.max_length=1024"),
        ("smollm2_lora --lora_r 8", "adapter.r=8"),
        ("smollm2_lora --bf16", "model.dtype"),
        ("--model_name_or_path a/b --dataset rows.csv", "--model"),
        ("smollm2_lora --output_dir out", "--work-dir"),
        ("--config mine.py", "CONFIG"),
    ],
)
def test_the_message_names_the_fix(
    trained: list[dict[str, Any]], words: str, fix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        code = cli.main(["train", *shlex.split(words)])
    except SystemExit as exit_:
        code = int(exit_.code or 0)
    message = capsys.readouterr().err
    assert code in (2, 3, 4), message
    assert trained == []
    assert fix in message
    assert "Traceback" not in message

"""On-policy distillation from the command line: the student approaches its teacher, and a run resumes bit-equal."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.ranks import run_jobs
from helpers.tiny import comparable_records, records
from transformers import AutoModelForCausalLM, AutoTokenizer

from xft.cli import main

CONFIG = """
model = dict(type="causal_lm", path={model!r}, dtype="float32")
adapter = dict(type="lora", r=4, lora_alpha=8, lora_dropout=0.0)
data = dict(type="prompt", format="alpaca", path={data!r}, max_length=128, val_split=2, keep_answers=True)
rewards = {{}}
objective = dict(type="gkd", teacher={teacher!r}, beta=0.5, lmbda=0.7)
rollout = dict(num_generations=2, max_new_tokens=10)
training = dict(max_steps=6, micro_batch_size=2, gradient_accumulation_steps=2, min_steps_per_epoch=0)
optimizer = dict(type="adamw", lr=2e-2)
hooks = dict(
    training_health=dict(type="training_health"),
    progress=dict(type="progress"),
    validation=dict(type="validation", interval=3),
    checkpoint=dict(type="checkpoint", interval=2, save_total_limit=9),
)
loggers = dict(jsonl=dict(type="jsonl"))
"""


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    folder = tmp_path_factory.mktemp("gkd")
    rows = [{"instruction": f"Say number {number}", "output": f"It is {number}."} for number in range(14)]
    data = folder / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    tokenizer: Any = AutoTokenizer.from_pretrained(tiny_model)
    teacher: Any = AutoModelForCausalLM.from_pretrained(tiny_model)
    torch.manual_seed(5)
    for layer in teacher.model.layers:
        weight = layer.mlp.down_proj.weight.data
        weight += 0.3 * torch.randn(len(weight), 1) @ torch.randn(1, weight.shape[1])
    teacher.save_pretrained(folder / "teacher")
    tokenizer.save_pretrained(folder / "teacher")
    path = folder / "gkd.py"
    text = CONFIG.format(model=str(tiny_model), data=str(data), teacher=str(folder / "teacher"))
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, config: Path) -> Path:
    folder = tmp_path_factory.mktemp("run") / "gkd"
    assert main(["train", str(config), "--work-dir", str(folder)]) == 0
    return folder


def test_the_student_approaches_its_teacher_on_its_own_completions(run: Path) -> None:
    losses = [row["loss"] for row in records(run, "val")]
    assert [row["step"] for row in records(run, "val")] == [0, 3, 6]
    assert losses[2] < losses[1] < losses[0]
    for record in records(run, "train"):
        assert record["loss"] > 0
        assert "reward" not in record
        assert record["completions/failed"] == 0


def test_a_fraction_of_the_prompts_is_sampled(run: Path) -> None:
    rows = (run / "rollouts.jsonl").read_text(encoding="utf-8").splitlines()
    assert 8 < len(rows) < 24
    assert all(item["reward"] is None for row in rows for item in json.loads(row)["completions"])


def test_a_resumed_run_is_the_whole_run(run: Path, config: Path, tmp_path: Path) -> None:
    half = tmp_path / "half"
    shutil.copytree(run, half, symlinks=True)
    for step in (4, 6):
        shutil.rmtree(half / "checkpoints" / f"step_{step}", ignore_errors=True)
    shutil.rmtree(half / "final")
    (half / "report.html").unlink()
    assert main(["train", str(config), "--work-dir", str(half), "--resume"]) == 0
    assert comparable_records(half) == comparable_records(run)
    assert (half / "rollouts.jsonl").read_bytes() == (run / "rollouts.jsonl").read_bytes()
    final = "final/adapter_model.safetensors"
    assert (half / final).read_bytes() == (run / final).read_bytes()


def test_all_weights_can_be_trained_and_rewards_are_logged(config: Path, tmp_path: Path) -> None:
    folder = tmp_path / "full"
    changes = [
        "adapter=None",
        "optimizer.lr=1e-3",
        "training.max_steps=2",
        "objective.beta=1.0",
        "objective.lmbda=1.0",
        "rollout.num_generations=1",
        "rewards={'early': {'type': 'regex', 'pattern': '^[a-m]'}}",
    ]
    assert main(["train", str(config), "--work-dir", str(folder), "--cfg-options", *changes]) == 0
    assert all("rewards/early" in row for row in records(folder, "train"))
    assert "mean reward" in (folder / "report.html").read_text(encoding="utf-8")


def test_two_ranks_and_zero_3_train_what_one_process_does(run: Path, config: Path, tmp_path: Path) -> None:
    half = "training.gradient_accumulation_steps=1"
    jobs: list[dict[str, Any]] = [
        {"config": str(config), "work_dir": str(tmp_path / "ddp"), "overrides": [half]},
        {
            "config": str(config),
            "work_dir": str(tmp_path / "zero3"),
            "overrides": [half],
            "deepspeed": "zero3",
        },
    ]
    assert run_jobs(tmp_path, jobs) == ["", ""]
    for name in ("ddp", "zero3"):
        for split in ("train", "val"):
            for record, one in zip(records(tmp_path / name, split), records(run, split), strict=True):
                for key in ("entropy", "completions/mean_length", "loss"):
                    assert record[key] == pytest.approx(one[key], rel=1e-3, abs=1e-5), (name, split, key)


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ("objective.beta=1.5", "objective.beta"),
        ("objective.lmbda=2", "objective.lmbda"),
        ("objective.teacher=3", "objective.teacher"),
        ("data.keep_answers=False", "objective.lmbda"),
        ("objective.teacher_bits=3", "objective.teacher_bits"),
    ],
)
def test_mistakes_are_named(
    change: str, key: str, config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(["train", str(config), "--work-dir", str(tmp_path / "run"), "--cfg-options", change])
    assert code != 0
    assert key in capsys.readouterr().err
    assert not (tmp_path / "run").exists()

"""Reinforcement learning from the command line: a reward rises, and a run resumes bit-equal."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from helpers.ranks import run_jobs
from helpers.stand_in_server import stand_in_server
from helpers.tiny import comparable_records, records

from xft.cli import main

CONFIG = """
model = dict(type="causal_lm", path={model!r}, dtype="float32")
adapter = dict(type="lora", r=4, lora_alpha=8, lora_dropout=0.0)
data = dict(type="prompt", path={data!r}, max_length=128, val_split=2)
objective = dict(type="grpo")
rewards = dict(early=dict(type="regex", pattern="^[a-m]"), length=dict(type="length", max_tokens=4, buffer=8))
rollout = dict(num_generations=4, max_new_tokens=10)
training = dict(max_steps=6, micro_batch_size=2, gradient_accumulation_steps=2, min_steps_per_epoch=0)
optimizer = dict(type="adamw", lr=2e-2)
hooks = dict(
    training_health=dict(type="training_health"),
    progress=dict(type="progress"),
    validation=dict(type="validation", interval=3),
    checkpoint=dict(type="checkpoint", interval=2, save_total_limit=9),
    verify=dict(type="verify"),
)
loggers = dict(jsonl=dict(type="jsonl"))
"""
REUSE = "rollout.num_iterations=3"


@pytest.fixture(scope="module")
def prompts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("prompts") / "prompts.jsonl"
    rows = [{"prompt": f"Say number {number}", "reference": str(number)} for number in range(14)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, prompts: Path) -> Path:
    path = tmp_path_factory.mktemp("grpo") / "grpo.py"
    path.write_text(CONFIG.format(model=str(tiny_model), data=str(prompts)), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, config: Path) -> Path:
    folder = tmp_path_factory.mktemp("run") / "grpo"
    assert main(["train", str(config), "--work-dir", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def reusing_run(tmp_path_factory: pytest.TempPathFactory, config: Path) -> Path:
    """A run of two rollouts with three steps each."""
    folder = tmp_path_factory.mktemp("reusing") / "grpo"
    assert main(["train", str(config), "--work-dir", str(folder), "--cfg-options", REUSE]) == 0
    return folder


def rollouts(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "rollouts.jsonl").read_text(encoding="utf-8").splitlines()]


def test_the_reward_rises(run: Path) -> None:
    rewards = [row["reward"] for row in records(run, "train")]
    assert len(rewards) == 6
    assert sum(rewards[3:]) > sum(rewards[:3])


def test_metrics_agree_with_the_rollouts(run: Path) -> None:
    for record in records(run, "train"):
        rows = [row for row in rollouts(run) if row["step"] == record["step"]]
        completions = [completion for row in rows for completion in row["completions"]]
        assert len(rows) == 4
        assert len(completions) == 16
        count = len(completions)
        assert record["reward"] == pytest.approx(sum(item["reward"] for item in completions) / count)
        assert record["rewards/early"] == pytest.approx(sum(item["early"] for item in completions) / count)
        mean_length = sum(item["tokens"] for item in completions) / count
        assert record["completions/mean_length"] == pytest.approx(mean_length)
        assert record["completions/stopped"] == sum(item["stopped"] for item in completions) / count
        if record["frac_reward_zero_std"] < 1:
            assert record["sampling_gap"] < 1e-5
        assert record["entropy"] > 0
        for item in completions:
            assert item["reward"] == pytest.approx(item["early"] + item["length"])


def test_validation_reports_the_reward_of_held_out_prompts(run: Path) -> None:
    values = records(run, "val")
    assert [row["step"] for row in values] == [0, 3, 6]
    assert all("rewards/early" in row and "reward" in row for row in values)
    trained = {row["row"] for row in rollouts(run)}
    assert len(trained) == 12


def test_a_resumed_run_samples_and_trains_what_the_whole_run_did(
    run: Path, config: Path, tmp_path: Path
) -> None:
    resume_from_step_2(run, config, tmp_path / "half", [])


def test_a_run_that_reuses_completions_resumes_in_the_middle_of_their_steps(
    reusing_run: Path, config: Path, tmp_path: Path
) -> None:
    assert {row["step"] for row in rollouts(reusing_run)} == {1, 4}
    train = records(reusing_run, "train")
    assert [train[step]["reward"] for step in range(3)] == [train[0]["reward"]] * 3
    assert [row["epoch"] for row in train][-1] == pytest.approx(6 / 9, abs=1e-3)
    resume_from_step_2(reusing_run, config, tmp_path / "half", [REUSE])


def resume_from_step_2(run: Path, config: Path, half: Path, changes: list[str]) -> None:
    shutil.copytree(run, half, symlinks=True)
    for step in (4, 6):
        shutil.rmtree(half / "checkpoints" / f"step_{step}", ignore_errors=True)
    shutil.rmtree(half / "final")
    (half / "report.html").unlink()
    options = ["--cfg-options", *changes] if changes else []
    assert main(["train", str(config), "--work-dir", str(half), "--resume", *options]) == 0
    assert comparable_records(half) == comparable_records(run)
    assert rollouts(half) == rollouts(run)
    final = "final/adapter_model.safetensors"
    assert (half / final).read_bytes() == (run / final).read_bytes()


def test_dry_run_samples_completions_of_the_maximum_length(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", str(config), "--dry-run", "--work-dir", str(tmp_path / "run")]) == 0
    output = capsys.readouterr().out
    assert "16 completions of 10 tokens" in output
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ("rewards={}", "rewards"),
        ("objective.reward_weights={'nothing':1}", "objective.reward_weights.nothing"),
        ("rollout.num_generations=1", "rollout.num_generations"),
        ("rollout.temperature=0", "rollout.temperature"),
        ("data.packing=True", "data.packing"),
        ("data.on_overlong='truncate'", "data.on_overlong"),
        ("objective.type='sft'", "data.type"),
        ("data.type='instruction'", "data.type"),
        ("rewards.early.pattern=3", "rewards.early.pattern"),
        ("rewards.early.type='nothing'", "rewards.early.type"),
        ("objective.loss_type='ppo'", "objective.loss_type"),
        ("objective.beta=-1", "objective.beta"),
        ("rewards.early.type='number'", "rewards.early.pattern"),
        ("rollout.engine={'type':'openai_server'}", "rollout.engine.url"),
    ],
)
def test_mistakes_are_named_before_the_model_is_loaded(
    change: str, key: str, config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(["train", str(config), "--work-dir", str(tmp_path / "run"), "--cfg-options", change])
    assert code != 0
    assert key in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_two_ranks_zero_3_and_fsdp2_sample_and_train_what_one_process_does(
    run: Path, reusing_run: Path, config: Path, tmp_path: Path
) -> None:
    half = "training.gradient_accumulation_steps=1"
    jobs = [
        {"config": str(config), "work_dir": str(tmp_path / "ddp"), "overrides": [half]},
        {
            "config": str(config),
            "work_dir": str(tmp_path / "zero3"),
            "overrides": [half],
            "deepspeed": "zero3",
        },
    ]
    jobs.append({**jobs[0], "work_dir": str(tmp_path / "fsdp2"), "fsdp": True})
    jobs.append({**jobs[2], "work_dir": str(tmp_path / "reusing"), "overrides": [half, REUSE]})
    assert run_jobs(tmp_path, jobs) == ["", "", "", ""]
    for name in ("ddp", "zero3", "fsdp2", "reusing"):
        one_process = reusing_run if name == "reusing" else run
        expected = records(one_process, "train")
        for record, one in zip(records(tmp_path / name, "train"), expected, strict=True):
            for key in ("reward", "entropy", "completions/mean_length", "loss", "grad_norm"):
                assert record[key] == pytest.approx(one[key], rel=1e-3, abs=1e-5), (
                    name,
                    record["step"],
                    key,
                )
        assert sorted(row["row"] for row in rollouts(tmp_path / name)) == sorted(
            row["row"] for row in rollouts(one_process)
        )


def test_a_server_samples_with_the_adapter_of_each_step(
    config: Path, tiny_model: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    with stand_in_server(tiny_model) as (url, state):
        engine = {"type": "openai_server", "url": url}
        options = [f"rollout.engine={engine}", "training.max_steps=3"]
        arguments = ["train", str(config), "--work-dir", str(folder), "--cfg-options", *options]
        assert main([*arguments, "--dry-run"]) == 0
        assert state.loaded == {}
        state.requests.clear()
        assert main(arguments) == 0
    loads = [body["lora_path"] for path, body in state.requests if path.endswith("/load_lora_adapter")]
    assert [Path(path).name for path in loads] == ["0", "1", "2", "3"]
    assert state.loaded == {}
    assert not (folder / "rollout_adapter").exists()
    for record in records(folder, "train"):
        if record["frac_reward_zero_std"] < 1:
            assert record["sampling_gap"] < 1e-5


def test_the_report_shows_rewards_and_completions(run: Path) -> None:
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "Sampled completions" in page
    assert "mean reward" in page
    assert "training loss" not in page

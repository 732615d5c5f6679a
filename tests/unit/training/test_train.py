"""What the command line says of the strategy, over what the config says."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from xft.errors import ConfigError
from xft.training.train import TrainOptions, _read_config, resume_command

CONFIG = """
model = dict(type="causal_lm", path="xft://smollm2-135m-instruct")
data = dict(type="instruction", path="rows.jsonl")
"""


def strategy(folder: Path, said: str, **options: Any) -> Any:
    """The strategy of a run whose config ends with ``said``."""
    config = folder / "c.py"
    config.write_text(CONFIG + said, encoding="utf-8")
    return _read_config(TrainOptions(str(config), **options)).get("strategy")


@pytest.mark.parametrize(
    ("said", "options", "expected"),
    [
        ("", {}, None),
        ("", {"sequence_parallel_size": 2}, {"type": "ddp", "sequence_parallel_size": 2}),
        (
            "strategy = 'single_device'",
            {"sequence_parallel_size": 2},
            {"type": "ddp", "sequence_parallel_size": 2},
        ),
        ("strategy = 'ddp'", {"sequence_parallel_size": 2}, {"type": "ddp", "sequence_parallel_size": 2}),
        (
            "",
            {"sequence_parallel_size": 2, "overrides": ["strategy.device=cpu"]},
            {"type": "ddp", "device": "cpu", "sequence_parallel_size": 2},
        ),
        ("strategy = 'ddp'", {"deepspeed": "zero2"}, {"type": "deepspeed", "zero_stage": 2}),
        (
            "strategy = dict(device='cpu')",
            {"sequence_parallel_size": 2, "deepspeed": "zero3"},
            {"type": "deepspeed", "zero_stage": 3, "device": "cpu", "sequence_parallel_size": 2},
        ),
        ("strategy = dict(device='cpu')", {"fsdp": True}, {"type": "fsdp2", "device": "cpu"}),
        (
            "strategy = dict(type='fsdp2', cpu_offload=True)",
            {"fsdp": True, "sequence_parallel_size": 2},
            {"type": "fsdp2", "cpu_offload": True, "sequence_parallel_size": 2},
        ),
        (
            "",
            {"fsdp": True, "overrides": ["strategy.sequence_parallel_size=2", "strategy.cpu_offload=True"]},
            {"type": "fsdp2", "sequence_parallel_size": 2, "cpu_offload": True},
        ),
        (
            "",
            {"launcher": "pytorch", "overrides": ["strategy.timeout_minutes=9"]},
            {"type": "ddp", "timeout_minutes": 9},
        ),
        (
            "strategy = dict(type='deepspeed', zero_stage=2, timeout_minutes=3)",
            {"deepspeed": "zero3"},
            {"type": "deepspeed", "zero_stage": 3, "timeout_minutes": 3},
        ),
    ],
)
def test_flags_change_what_they_name_and_keep_the_rest(
    tmp_path: Path, said: str, options: dict[str, Any], expected: Any
) -> None:
    assert strategy(tmp_path, said, **options) == expected


def test_two_flags_that_shard_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        strategy(tmp_path, "", fsdp=True, deepspeed="zero2")
    assert caught.value.key == "--fsdp"


@pytest.mark.parametrize("options", [{}, {"sequence_parallel_size": 2}])
def test_a_strategy_without_a_type_is_refused(tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="strategy: 'type' is missing"):
        strategy(tmp_path, "strategy = dict(device='cpu')", **options)


@pytest.mark.parametrize(
    ("options", "end"),
    [
        ({}, "train c.py --work-dir runs/a --resume"),
        (
            {"seed": 0, "overrides": ["data.path=my rows.jsonl"]},
            "--seed 0 --cfg-options 'data.path=my rows.jsonl'",
        ),
        ({"launcher": "pytorch"}, "--nproc-per-node 2"),
        ({"launcher": "slurm", "safe_config": True}, "--safe-config --launcher slurm"),
        ({"fsdp": True, "launcher": "pytorch"}, "--fsdp --nproc-per-node 2"),
        (
            {"deepspeed": "zero3", "sequence_parallel_size": 2, "launcher": "mpi"},
            "--deepspeed zero3 --sequence-parallel-size 2 --launcher mpi",
        ),
    ],
)
def test_command_that_resumes_repeats_the_options(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], end: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert resume_command(TrainOptions("c.py", **options), tmp_path / "runs" / "a").endswith(end)


def test_a_run_with_a_made_config_resumes_with_that_of_the_run(tmp_path: Path) -> None:
    options = TrainOptions("/tmp/made.py", overrides=["seed=1"], is_temporary_config=True)
    run = tmp_path / "a"
    assert f"train {run / 'config.py'} --work-dir {run} --resume" in resume_command(options, run)
    assert "seed=1" not in resume_command(options, run)


def test_no_option_is_missing_in_the_command_that_resumes(tmp_path: Path) -> None:
    """An option is repeated, or has no meaning for a run that continues."""
    values: dict[object, Any] = {int | None: 7, str | None: "zero2", bool: True, list[str]: ["a=1"]}
    excluded = {"config", "work_dir", "resume", "launcher", "dry_run", "is_temporary_config"}
    base = resume_command(TrainOptions("c.py"), tmp_path)
    for field in fields(TrainOptions):
        if field.name not in excluded:
            changed = TrainOptions("c.py", **{field.name: values[field.type]})
            assert resume_command(changed, tmp_path) != base, field.name

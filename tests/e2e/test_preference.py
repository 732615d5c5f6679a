"""Preference tuning through the same commands as instruction tuning."""

import json
from pathlib import Path

import pytest
from helpers.tiny import records, write_config

from xft.cli import main

OBJECTIVES = ["orpo", "dpo", "kto"]


@pytest.fixture
def rows(tmp_path: Path) -> dict[str, Path]:
    """The same answers as pairs and as single labels."""
    pairs = [
        {"prompt": f"Say number {n}", "chosen": f"Number {n}.", "rejected": f"No {'no ' * (n % 4)}"}
        for n in range(24)
    ]
    single = [
        {"prompt": each["prompt"], "completion": each[side], "label": side == "chosen"}
        for each in pairs
        for side in ("chosen", "rejected")
    ]
    files = {}
    for name, made in (("preference", pairs), ("unpaired_preference", single)):
        files[name] = tmp_path / f"{name}.jsonl"
        files[name].write_text("".join(json.dumps(each) + "\n" for each in made), encoding="utf-8")
    return files


def config(folder: Path, model: Path, rows: dict[str, Path], objective: str, extra: str = "") -> Path:
    kind, form = ("unpaired_preference", "kto") if objective == "kto" else ("preference", "preference")
    lines = f"data.update(type={kind!r}, format={form!r})\nobjective = {objective!r}\n{extra}"
    return write_config(folder / f"{objective}.py", model, rows[kind], lines)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_objective_learns_and_is_validated(
    objective: str, tmp_path: Path, tiny_model: Path, rows: dict[str, Path]
) -> None:
    file = config(tmp_path, tiny_model, rows, objective, "training.update(epochs=4)\n")
    assert main(["train", str(file), "--work-dir", str(tmp_path / "run")]) == 0
    train, val = (records(tmp_path / "run", each) for each in ("train", "val"))
    assert train[-1]["loss"] < train[0]["loss"]
    assert val[-1]["loss"] < val[0]["loss"]
    if objective != "kto":
        assert train[-1]["rewards/margins"] > train[0]["rewards/margins"]
        assert val[-1]["rewards/margins"] > val[0]["rewards/margins"]
    if objective == "dpo":
        # Before the first step the model is its reference: every reward is zero, the loss log 2.
        assert val[0]["loss"] == pytest.approx(0.693147, abs=1e-5)
        assert val[0]["rewards/margins"] == pytest.approx(0, abs=1e-5)
    assert (tmp_path / "run" / "final" / "adapter_model.safetensors").is_file()


def test_dpo_continues_from_the_adapter_of_a_run(
    tmp_path: Path, tiny_model: Path, finished_run: Path, rows: dict[str, Path]
) -> None:
    """Instruction tuning, then DPO: one adapter of the same base, whose reference is the tuned model."""
    file = config(tmp_path, finished_run, rows, "dpo", "training.update(epochs=1)\n")
    assert main(["train", str(file), "--work-dir", str(tmp_path / "run")]) == 0
    start = records(tmp_path / "run", "val")[0]
    assert start["loss"] == pytest.approx(0.693147, abs=1e-5)
    final = tmp_path / "run" / "final"
    assert json.loads((final / "xft_metadata.json").read_text())["base"] == str(tiny_model)
    assert json.loads((final / "adapter_config.json").read_text())["base_model_name_or_path"] == str(
        tiny_model
    )
    assert "(method: lora, dpo)" in (final / "README.md").read_text()
    assert main(["eval", str(tmp_path / "run")]) == 0
    assert main(["convert", str(tmp_path / "run"), str(tmp_path / "out"), "--merge"]) == 0


def test_resumed_run_is_bit_equal(tmp_path: Path, tiny_model: Path, rows: dict[str, Path]) -> None:
    file = config(
        tmp_path, tiny_model, rows, "dpo", "hooks['checkpoint'].update(interval=2, save_total_limit=99)\n"
    )
    whole, again = tmp_path / "whole", tmp_path / "again"
    assert main(["train", str(file), "--work-dir", str(whole)]) == 0
    checkpoint = str(whole / "checkpoints" / "step_2")
    assert main(["train", str(file), "--work-dir", str(again), "--resume", checkpoint]) == 0

    def losses(run: Path) -> dict[int, float]:
        return {each["step"]: each["loss"] for each in records(run, "train") if each["step"] > 2}

    assert losses(again) == losses(whole)
    assert len(losses(whole)) > 2
    weights = [(run / "final" / "adapter_model.safetensors").read_bytes() for run in (whole, again)]
    assert weights[0] == weights[1]


@pytest.mark.parametrize(("objective", "kind"), [("sft", "preference"), ("orpo", "unpaired_preference")])
def test_objective_and_data_of_different_kinds_are_refused(
    objective: str,
    kind: str,
    tmp_path: Path,
    tiny_model: Path,
    rows: dict[str, Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    form = "kto" if kind == "unpaired_preference" else kind
    extra = f"data.update(type={kind!r}, format={form!r})\nobjective = {objective!r}\n"
    file = write_config(tmp_path / "c.py", tiny_model, rows[kind], extra)
    assert main(["train", str(file), "--work-dir", str(tmp_path / "run")]) == 2
    assert "data.type: got" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()

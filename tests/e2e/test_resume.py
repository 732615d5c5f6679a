"""A run that was broken off and resumed is the run that was not."""

from pathlib import Path

import pytest
import torch
from helpers.components import HOOK
from helpers.tiny import comparable_records, records
from safetensors.torch import load_file

from xft.cli import INTERRUPTED, main


@pytest.fixture
def broken_off(tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run with dropout that ended in step 7 of 12; its last checkpoint is of step 6."""
    (tmp_path / "breaking.py").write_text(HOOK)
    monkeypatch.syspath_prepend(str(tmp_path))
    tiny_run.write_text(
        tiny_run.read_text()
        + "adapter.update(lora_dropout=0.2)\nhooks['checkpoint'].update(interval=3, save_total_limit=9)\n"
    )
    options = ["--cfg-options", "hooks.break_off.type=breaking.BreakOff", "hooks.break_off.at=7"]
    code = main(["train", str(tiny_run), "--work-dir", str(tmp_path / "run"), *options])
    assert code == INTERRUPTED
    assert len(records(tmp_path / "run", "train")) == 7
    return tmp_path / "run"


def test_the_resumed_run_is_bit_equal_to_the_uninterrupted_one(
    broken_off: Path, tiny_run: Path, tmp_path: Path
) -> None:
    assert main(["train", str(tiny_run), "--work-dir", str(broken_off), "--resume"]) == 0
    assert main(["train", str(tiny_run), "--work-dir", str(tmp_path / "whole")]) == 0
    assert comparable_records(broken_off) == comparable_records(tmp_path / "whole")
    got = load_file(broken_off / "final" / "adapter_model.safetensors")
    expected = load_file(tmp_path / "whole" / "final" / "adapter_model.safetensors")
    assert got.keys() == expected.keys()
    assert all(torch.equal(got[name], expected[name]) for name in expected)
    asked = (broken_off / "generations.jsonl").read_text()
    assert asked == (tmp_path / "whole" / "generations.jsonl").read_text()


def test_a_checkpoint_can_be_named_and_goes_on_in_another_folder(
    broken_off: Path, tiny_run: Path, tmp_path: Path
) -> None:
    checkpoint = broken_off / "checkpoints" / "step_3"
    other = tmp_path / "other"
    assert main(["train", str(tiny_run), "--work-dir", str(other), "--resume", str(checkpoint)]) == 0
    assert [each["step"] for each in records(other, "train")] == list(range(4, 13))


def test_there_must_be_something_to_resume(
    tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", str(tiny_run), "--work-dir", str(tmp_path / "none"), "--resume"]) == 5
    assert "has no checkpoint" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


def test_a_finished_run_is_not_resumed(
    finished_run: Path, tiny_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (finished_run / "metrics.jsonl").read_text()
    assert main(["train", str(tiny_run), "--resume", str(finished_run)]) == 2
    assert "done" in capsys.readouterr().err
    assert (finished_run / "metrics.jsonl").read_text() == before


def test_a_changed_config_is_refused_with_what_changed(
    broken_off: Path, tiny_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ("config.py", "metrics.jsonl", "generations.jsonl", "data_report.json")
    before = {name: (broken_off / name).read_bytes() for name in names}
    options = [
        "--cfg-options",
        "optimizer.lr=1e-5",
        "data.val_split=0.2",
        "training.gradient_accumulation_steps=1",
    ]
    assert main(["train", str(tiny_run), "--work-dir", str(broken_off), "--resume", *options]) == 5
    error = capsys.readouterr().err
    assert "optimizer.lr was 0.01, is 1e-05" in error
    assert "data.val_split was 0.1, is 0.2" in error
    assert "training.gradient_accumulation_steps was 2, is 1" in error
    assert {name: (broken_off / name).read_bytes() for name in names} == before


def test_a_run_that_is_made_longer_follows_its_new_schedule(
    broken_off: Path, tiny_run: Path, tmp_path: Path
) -> None:
    """The rate after the resume is that of the long run at that step, not the end of the short one."""
    longer = ["--cfg-options", "training.epochs=6"]
    assert main(["train", str(tiny_run), "--work-dir", str(broken_off), "--resume", *longer]) == 0
    assert main(["train", str(tiny_run), "--work-dir", str(tmp_path / "long"), *longer]) == 0
    rates = [
        {each["step"]: each["lr"] for each in records(run, "train")}
        for run in (broken_off, tmp_path / "long")
    ]
    assert len(rates[1]) == 36
    assert {step: rates[0][step] for step in range(7, 37)} == {
        step: rates[1][step] for step in range(7, 37)
    }


def test_a_broken_checkpoint_is_said_in_one_line(
    broken_off: Path, tiny_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = broken_off / "checkpoints" / "step_6"
    for name, content in (
        ("adapter_model.safetensors", b"cut"),
        ("training_state.safetensors", b"x"),
        ("training_state.json", b"[]"),
    ):
        kept = (folder / name).read_bytes()
        (folder / name).write_bytes(content)
        assert main(["train", str(tiny_run), "--work-dir", str(broken_off), "--resume", str(folder)]) == 5
        error = capsys.readouterr().err
        assert error.startswith("error: ")
        assert error.count("\n") == 1
        (folder / name).write_bytes(kept)


def test_other_data_is_refused(
    broken_off: Path, tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(rows.read_text().splitlines(keepends=True)[:-3]))
    assert main(["train", str(tiny_run), "--work-dir", str(broken_off), "--resume"]) == 5
    assert "the data or the batch shape differs" in capsys.readouterr().err


def test_a_resumed_run_still_shows_the_answers_from_before_the_first_step(
    broken_off: Path, tiny_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert main(["train", str(tiny_run), "--work-dir", str(broken_off), "--resume"]) == 0
    printed = capsys.readouterr().out
    assert "score before 0 of 1" in printed


def test_a_checkpoint_of_another_adapter_is_refused(
    finished_run: Path, tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--cfg-options", "adapter.r=2", "training.epochs=9"]
    assert (
        main(
            [
                "train",
                str(tiny_run),
                "--work-dir",
                str(tmp_path / "r"),
                "--resume",
                str(finished_run),
                *options,
            ]
        )
        == 5
    )
    assert "adapter.r was 4, is 2" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["metric_for_best_model=loss", "greater_is_better=true"], "final/ has the weights of step_"),
        (["metric_for_best_model=score", "greater_is_better=true", "save_total_limit=1"], ""),
    ],
)
def test_the_best_model_is_the_final_one_where_it_is_wanted(
    tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], line: str
) -> None:
    """The loss falls, so that the highest one is of the first validation; the score of a tiny model stays 0."""
    keys = [f"hooks.checkpoint.{option}" for option in [*options, "load_best_model_at_end=true"]]
    arguments = ["train", str(tiny_run), "--work-dir", str(tmp_path / "run")]
    assert (
        main([*arguments, "--cfg-options", "hooks.validation.interval=2", "optimizer.lr=1e-2", *keys]) == 0
    )
    out = capsys.readouterr().out
    assert ("the last validation is worse than the best" in out) == bool(line)
    assert line in out
    checkpoints = tmp_path / "run" / "checkpoints"
    best, last, final = (
        load_file(folder / "adapter_model.safetensors")
        for folder in (checkpoints / "best", checkpoints / "last", tmp_path / "run" / "final")
    )
    assert all(torch.equal(final[name], best[name]) for name in best)
    assert not all(torch.equal(last[name], best[name]) for name in best)
    step = (checkpoints / "best").resolve().name.removeprefix("step_")
    card = (tmp_path / "run" / "final" / "README.md").read_text()
    assert f" at step {step}" in card
    assert " at step 12" not in card

from pathlib import Path

from helpers.run_folders import write_run
from helpers.runner import FakeRunner
from mmengine.config import Config

from xft.training.verdict import format_verdict, next_commands


def test_verdict_names_result_figures_time_and_files(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", [2.0] * 9, run={"seconds": 75, "final_step": 9})
    lines = list(format_verdict(run, run / "final", "logits are identical", run / "report.html"))
    text = "\n".join(lines)
    for words in (
        "result    better: the validation loss went from 4 to 2",
        "val       loss 4 → 2",
        "time      1m15s, 9 steps",
        "weights of step 9",
        "report.html",
    ):
        assert words in text
    assert "warning" not in text


def test_next_commands_use_the_run(tmp_path: Path) -> None:
    runner = FakeRunner(work_dir=tmp_path / "my run")
    runner.cfg = Config({"data": {"path": "rows.jsonl"}})
    commands = list(next_commands(runner))
    assert len(commands) == 3
    assert all(f"'{tmp_path / 'my run'}'" in line for line in commands[:1])
    assert "convert" in commands[1]
    assert "--merge" not in commands[1]  # the model is no adapter

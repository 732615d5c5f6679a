"""`eval` on a run that ended: the figures are those of the run, and of the file."""

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from tiny import records

from xft.chat import open_session
from xft.cli import main


def test_it_finds_what_the_run_found_at_its_end(
    finished_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"instruction": f"Say number {i}", "output": f"Number {i} is good"} for i in (90, 91, 92)]
    file, out = tmp_path / "held.jsonl", tmp_path / "found.json"
    file.write_text("".join(json.dumps(each) + "\n" for each in rows))
    options = ["--data", str(file), "--limit", "2", "--max-new-tokens", "6", "--out", str(out)]
    assert main(["eval", str(finished_run), *options]) == 0
    found = json.loads(out.read_text())
    last = records(finished_run, "val")[-1]
    for name in ("loss", "perplexity", "accuracy"):
        assert found["validation"][name] == pytest.approx(last[name], rel=1e-5)
    samples = [json.loads(each) for each in (finished_run / "samples.jsonl").read_text().splitlines()]
    assert found["questions"] == [{k: v for k, v in each.items() if k != "step"} for each in samples[-2:]]
    assert found["data"]["metrics"]["rows"] == 2
    session = open_session(str(finished_run), max_new_tokens=6)
    assert [each["answer"] for each in found["data"]["answers"]] == [
        session.ask_once(each["instruction"]) for each in rows[:2]
    ]
    assert [each["reference"] for each in found["data"]["answers"]] == [each["output"] for each in rows[:2]]
    said = capsys.readouterr().out
    assert f"loss {last['loss']:.4g}" in said
    assert "rougeL" in said


def test_tasks_are_handed_to_the_harness_where_it_is_installed(
    finished_run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A stand-in: the real one wants data sets of a hub."""
    seen: dict[str, Any] = {}

    def simple_evaluate(**options: Any) -> Any:
        seen.update(options)
        return {"results": {"arc": {"acc,none": 0.25, "alias": "arc"}}}

    harness, models, kind = (
        ModuleType(each) for each in ("lm_eval", "lm_eval.models", "lm_eval.models.huggingface")
    )
    harness.simple_evaluate = simple_evaluate  # type: ignore[attr-defined]
    kind.HFLM = lambda **options: options  # type: ignore[attr-defined]
    for each in (harness, models, kind):
        monkeypatch.setitem(sys.modules, each.__name__, each)
    monkeypatch.setattr("xft.engine.evaluating.find_spec", lambda name: object())
    assert main(["eval", str(finished_run), "--tasks", "arc, mmlu", "--limit", "5"]) == 0
    assert (seen["tasks"], seen["limit"]) == (["arc", "mmlu"], 5)
    assert "task        arc  acc,none 0.25\n" in capsys.readouterr().out


def test_what_cannot_be_evaluated_is_said_in_one_line(
    finished_run: Path, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"instruction": "x"}\n')
    cases = [
        ([str(tiny_model)], 2, "is no run folder"),
        ([str(finished_run), "--limit", "0"], 2, "at least 1"),
        ([str(finished_run), "--data", str(bad)], 3, "bad.jsonl:1: field output"),
    ]
    for arguments, code, message in cases:
        assert main(["eval", *arguments]) == code
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1

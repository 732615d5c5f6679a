"""The pages of runs, as a user gets them: at the end of a run, and by command."""

import contextlib
import io
import json
import re
import shlex
from html import unescape
from pathlib import Path

import pytest
from helpers.tiny import records

from xft.cli import main


def blocks(page: str) -> list[str]:
    """What can be pasted."""
    return [unescape(each) for each in re.findall(r"<pre>(.*?)</pre>", page, re.DOTALL)]


def test_a_run_ends_with_its_report(finished_run: Path) -> None:
    page = (finished_run / "report.html").read_text(encoding="utf-8")
    steps = len(records(finished_run, "train"))
    assert f"Finished after {steps} steps" in page
    assert page.count('class="chart"') >= 6
    for line in (finished_run / "generations.jsonl").read_text().splitlines():
        assert f"step {json.loads(line)['step']}" in page
    environment = json.loads((finished_run / "environment.json").read_text())
    import torch

    assert environment["versions"]["torch"] == torch.__version__
    assert environment["plan"]["steps"] == steps
    assert environment["machine"]["device"] == "cpu"
    assert all(each["peak_memory_bytes"] > 10**8 for each in records(finished_run, "train"))


def test_what_the_report_says_to_paste_works(
    finished_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pasted = blocks((finished_run / "report.html").read_text(encoding="utf-8"))
    [chat] = [shlex.split(each) for each in pasted if " chat" in each or "chat.py" in each]
    assert (Path(chat[0]).name, chat[1]) == ("xft", "chat") or Path(chat[1]).is_file()
    assert main(["chat", *chat[2:], "--prompt", "Who are you?", "--max-new-tokens", "3"]) == 0
    [code] = [each for each in pasted if each.startswith("from peft")]
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        exec(compile(code.replace("max_new_tokens=64", "max_new_tokens=3"), "pasted", "exec"), {})  # noqa: S102
    assert said.getvalue().endswith("\n")


def test_report_and_compare_by_command(
    finished_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "page.html"
    assert main(["report", str(finished_run), "--out", str(out)]) == 0
    assert str(out) in capsys.readouterr().out
    assert out.stat().st_size > 10_000
    both = tmp_path / "both.html"
    assert main(["compare", str(finished_run), str(finished_run), "--out", str(both)]) == 0
    assert "2 runs" in both.read_text(encoding="utf-8")
    assert main(["report", str(tmp_path)]) == 2
    assert "expected a run folder" in capsys.readouterr().err

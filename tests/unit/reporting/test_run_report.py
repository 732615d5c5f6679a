"""The report of a run: complete, robust to missing files, and safe with hostile text."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from helpers.run_folders import ANSWERS, HOSTILE, Parsed, assert_no_active_content, write_run

from xft.reporting import write_report


def page_of(run: Path) -> Parsed:
    return Parsed(write_report(run).read_text(encoding="utf-8"))


def test_report_contains_everything_of_a_run(tmp_path: Path) -> None:
    losses: list[float | None] = [4.0, 3.0, None, 2.0, 1.5, 1.2, 1.1, 1.05, 1.0]
    plan = {"steps": 9, "micro_batch_size": 2}
    run = write_run(tmp_path / "mine", losses, ANSWERS, plan=plan, versions={"torch": "2.13.0"})
    (run / "train.log").write_text(
        "2026-01-01 10:00:00,000 warning: the loss of step 2 is <b>high</b>\n"
        "2026-01-01 10:00:00,001 step 3/9  loss 2\n2026-01-01 10:00:01,000 warning: the loss of step 2 is <b>high</b>\n"
    )
    page = page_of(run)
    assert_no_active_content(page)
    assert page.text.count("the loss of step 2 is <b>high</b>") == 1
    assert "Finished after 9 steps" in page.text
    for wanted in ("mine", "2.13.0", "seed = 0", "micro_batch_size"):
        assert wanted in page.text
    titles = [each.partition(" (")[0] for each in page.by_class["chart"]]
    for title in (
        "Loss",
        "Validation perplexity",
        "Learning rate",
        "Gradient norm",
        "Throughput",
        "Peak memory",
    ):
        assert any(each.startswith(title) for each in titles), title
    labels = [each["aria-label"] or "" for each in page.attributes("svg")]
    assert any(each.startswith("Loss: training 4 → 1, validation 4 → 2") for each in labels)
    facts = " ".join(page.by_class["fact"])
    assert "validation loss2from 4; best 2 at step 9" in facts
    assert "tokens/s50" in facts
    assert "peak memory1.0 GB" in facts


def test_title_has_verdict_model_data_date_and_duration_and_answers_come_first(tmp_path: Path) -> None:
    config = 'model = dict(path="org/model")\ndata = dict(path="rows.jsonl")\n'
    environment = {"started_at": "2026-01-02T03:04:05+00:00", "seconds": 75}
    page = page_of(write_run(tmp_path / "run", [2.0] * 9, ANSWERS, config=config, run=environment))
    assert "Better: the validation loss went from 4 to 2" in page.text
    assert "org/model · rows.jsonl · 2026-01-02 03:04 · 1m15s" in page.text
    assert page.text.index("Sample questions") < page.text.index("Learning rate")


def test_report_contains_every_answer(tmp_path: Path) -> None:
    page = page_of(write_run(tmp_path / "run", [2.0] * 9, ANSWERS))
    assert_no_active_content(page)
    blocks = page.by_class["question"]
    assert len(blocks) == 2
    for step, asked in ANSWERS.items():
        for block, (question, answer, _) in zip(blocks, asked, strict=True):
            assert question in block
            assert f"step {step}" in block
            assert answer.replace("\x1b", "␛") in block
    assert re.findall(r"✓|✗|0\.50", page.by_class["scores"][0]) == ["✗", "0.50", "✓"]


def test_report_of_killed_run_shows_its_progress(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", [3.0, 2.0], ANSWERS, finished=False, plan={"steps": 40})
    with (run / "metrics.jsonl").open("ab") as out:
        out.write(b'{"step": 3, "split": "train", "lo\xe4')
    page = page_of(run)
    assert "Not finished: at step 2 of 40" in page.text
    assert "--resume auto" in page.by_id["use"]
    (run / "checkpoints" / "last").mkdir(parents=True)
    page = page_of(run)
    assert f"--resume {run}" in page.by_id["use"]
    assert "chat" in page.by_id["use"]


@pytest.mark.parametrize("kept", ["metrics.jsonl", "config.py"])
def test_report_omits_missing_files(tmp_path: Path, kept: str) -> None:
    run = write_run(tmp_path / "run", [3.0, 2.0], ANSWERS, finished=False)
    for each in run.iterdir():
        if each.name != kept:
            each.unlink()
    page = page_of(run)
    assert_no_active_content(page)
    assert ("curves" in page.by_id) == (kept == "metrics.jsonl")
    assert "questions" not in page.by_id


def test_report_keeps_hostile_files_as_text(tmp_path: Path) -> None:
    run = write_run(
        tmp_path / "run", [3.0, 2.0], {0: [(HOSTILE, HOSTILE, 0.0)]}, config=f"name = {HOSTILE!r}\n"
    )
    (run / "train.log").write_text(f"2026-01-01 10:00:00,000 warning: {HOSTILE}\n")
    (run / "environment.json").write_text(json.dumps({HOSTILE: {HOSTILE: HOSTILE}}))
    with (run / "metrics.jsonl").open("a") as out:
        out.write(json.dumps({"step": 1, "split": "train", HOSTILE: 1.0}) + "\n")
        out.write(json.dumps({"step": 2, "split": "train", HOSTILE: 2.0}) + "\n")
    page = page_of(run)
    assert_no_active_content(page)
    assert page.text.count("document.title='pwned'") >= 5


def test_browser_runs_no_script_of_a_hostile_answer(tmp_path: Path) -> None:
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("Chromium is not installed")
    run = write_run(
        tmp_path / "run", [3.0, 2.0], {0: [(HOSTILE, HOSTILE, 0.0)], 2: [(HOSTILE, "fine", 1.0)]}
    )
    flags = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    more = f"--disable-component-update --disable-sync --user-data-dir={tmp_path / 'profile'} --dump-dom"
    done = subprocess.run(
        [browser, *flags.split(), *more.split(), write_report(run).as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    page = Parsed(done.stdout)
    assert re.search(r"<title>run · run</title>", done.stdout)
    assert not {tag for tag, _ in page.tags} & {"script", "img"}
    assert "document.title='pwned'" in page.by_id["questions"]


OLD_LENGTH = {"p50": 3, "p95": 9, "max": 9, "histogram": [[0, 10, 9]]}
"""Lengths as a previous version of xft wrote them."""


@pytest.mark.parametrize(
    "report",
    [
        {"rows_read": 9, "splits": {"train": {"samples": 9, "tokens": 90, "length": OLD_LENGTH}}},
        {"rows_read": "9"},
        {"rows_dropped": 3},
        {"packing": [1, 2]},
        {"quarantined": [{"reason": "old"}]},
    ],
)
def test_data_report_of_another_version_is_a_note(tmp_path: Path, report: object) -> None:
    run = write_run(tmp_path / "run", [2.0], ANSWERS)
    (run / "data_report.json").write_text(json.dumps(report))
    page = page_of(run)
    assert_no_active_content(page)
    assert "data_report.json has the format of another version of xft" in page.by_id["data"]


@pytest.mark.parametrize(
    ("name", "record"),
    [
        ("metrics.jsonl", {"step": 1, "split": "train", "tokens": "90", "tokens_per_second": [1]}),
        ("metrics.jsonl", {"step": 1, "split": "train", "loss": float("inf"), "lr": 10**400}),
        ("generations.jsonl", {"step": 1, "question": "q", "answer": "a", "system": ["s"]}),
        ("environment.json", {"plan": [1]}),
    ],
)
def test_record_of_another_type_is_left_out(tmp_path: Path, name: str, record: object) -> None:
    run = write_run(tmp_path / "run", [2.0, 1.0], ANSWERS)
    with (run / name).open("w" if name.endswith(".json") else "a") as file:
        file.write(json.dumps(record) + "\n")
    page = page_of(run)
    assert "training loss1from 2" in " ".join(page.by_class["fact"])

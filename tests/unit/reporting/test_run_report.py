"""The report of a run: it shows what the folder holds, whatever state the run is in, and obeys nobody."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from helpers.run_folders import HOSTILE, Parsed, write_run

from xft.errors import ConfigError
from xft.reporting import generations_table, read_run, write_comparison, write_report
from xft.reporting.html import POLICY

ASKED = {
    0: [("Which file?", "I do not know.", 0.0), ("Who are you?", "Nobody.", None)],
    5: [("Which file?", "I do know.", 0.5), ("Who are you?", "Somebody.", None)],
    9: [("Which file?", "It is metrics.jsonl.", 1.0), ("Who are you?", HOSTILE, None)],
}


def page_of(run: Path) -> Parsed:
    return Parsed(write_report(run).read_text(encoding="utf-8"))


def assert_obeys_nobody(page: Parsed) -> None:
    """No script, no address, no handler: nothing runs, and nothing is fetched."""
    names = {tag for tag, _ in page.tags}
    assert not names & {"script", "img", "link", "iframe", "object", "embed", "form", "a", "base"}
    for _, attributes in page.tags:
        assert not [
            each for each in attributes if each.startswith("on") or each in ("src", "href", "srcset")
        ]
    policies = [each.get("content") for each in page.attributes("meta") if each.get("http-equiv")]
    assert policies == [POLICY]
    assert page.unbalanced == []
    assert page.open == []


def test_everything_of_a_run_is_in_its_page(tmp_path: Path) -> None:
    losses: list[float | None] = [4.0, 3.0, None, 2.0, 1.5, 1.2, 1.1, 1.05, 1.0]
    plan = {"steps": 9, "micro_batch_size": 2}
    run = write_run(tmp_path / "mine", losses, ASKED, plan=plan, versions={"torch": "2.13.0"})
    (run / "train.log").write_text(
        "2026-01-01 10:00:00,000 warning: the loss of step 2 is <b>high</b>\n"
        "2026-01-01 10:00:00,001 step 3/9  loss 2\n2026-01-01 10:00:01,000 warning: the loss of step 2 is <b>high</b>\n"
    )
    page = page_of(run)
    assert_obeys_nobody(page)
    assert page.text.count("the loss of step 2 is <b>high</b>") == 1
    assert "Finished after 9 steps" in page.text
    for wanted in ("mine", "2.13.0", "seed = 0", "micro_batch_size"):
        assert wanted in page.text
    titles = [each.partition(" (")[0] for each in page.by_class["chart"]]
    for title in ("Loss", "Perplexity", "Learning rate", "Norm of the gradient", "Throughput", "Memory"):
        assert any(each.startswith(title) for each in titles), title
    labels = [each["aria-label"] or "" for each in page.attributes("svg")]
    assert any(each.startswith("Loss: training 4 → 1, validation 4 → 2") for each in labels)
    facts = " ".join(page.by_class["fact"])
    assert "validation loss2from 4; best 2 at step 9" in facts
    assert "tokens a second50" in facts
    assert "memory1.0 GB" in facts


def test_every_answer_to_every_question_is_there(tmp_path: Path) -> None:
    page = page_of(write_run(tmp_path / "run", [2.0] * 9, ASKED))
    assert_obeys_nobody(page)
    blocks = page.by_class["question"]
    assert len(blocks) == 2
    for step, asked in ASKED.items():
        for block, (question, answer, _) in zip(blocks, asked, strict=True):
            assert question in block
            assert f"step {step}" in block
            assert answer.replace("\x1b", "␛") in block
    assert re.findall(r"✓|✗|0\.50", page.by_class["scores"][0]) == ["✗", "0.50", "✓"]


def test_differences_are_marked_word_by_word() -> None:
    before, after = generations_table.differences("the old file is here", "the new file was here")
    assert (before, after) == (
        "the <del>old</del> file <del>is</del> here",
        "the <ins>new</ins> file <ins>was</ins> here",
    )
    before, after = generations_table.differences("发票保存五年。", "发票保存十年。")
    assert (before, after) == ("发票保存<del>五</del>年。", "发票保存<ins>十</ins>年。")
    before, after = generations_table.differences("<b>", "<b> & more")
    assert Parsed(before).text == "<b>"
    assert Parsed(after).text == "<b> & more"
    assert {tag for tag, _ in Parsed(after).tags} == {"ins"}


def test_a_killed_run_is_shown_as_far_as_it_came(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", [3.0, 2.0], ASKED, finished=False, plan={"steps": 40})
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
def test_what_is_missing_is_left_out(tmp_path: Path, kept: str) -> None:
    run = write_run(tmp_path / "run", [3.0, 2.0], ASKED, finished=False)
    for each in run.iterdir():
        if each.name != kept:
            each.unlink()
    page = page_of(run)
    assert_obeys_nobody(page)
    assert ("curves" in page.by_id) == (kept == "metrics.jsonl")
    assert "questions" not in page.by_id


def test_hostile_files_stay_text(tmp_path: Path) -> None:
    run = write_run(
        tmp_path / "run", [3.0, 2.0], {0: [(HOSTILE, HOSTILE, 0.0)]}, config=f"name = {HOSTILE!r}\n"
    )
    (run / "train.log").write_text(f"2026-01-01 10:00:00,000 warning: {HOSTILE}\n")
    (run / "environment.json").write_text(json.dumps({HOSTILE: {HOSTILE: HOSTILE}}))
    with (run / "metrics.jsonl").open("a") as out:
        out.write(json.dumps({"step": 1, "split": "train", HOSTILE: 1.0}) + "\n")
        out.write(json.dumps({"step": 2, "split": "train", HOSTILE: 2.0}) + "\n")
    page = page_of(run)
    assert_obeys_nobody(page)
    assert page.text.count("document.title='pwned'") >= 5


@pytest.mark.parametrize("make", [lambda path: None, lambda path: path.mkdir()])
def test_what_is_no_run_folder_is_refused(tmp_path: Path, make: object) -> None:
    make(tmp_path / "x")  # type: ignore[operator]
    with pytest.raises(ConfigError, match="no run folder"):
        read_run(tmp_path / "x")


def test_a_file_of_somebody_else_is_not_written_over(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", [3.0, 2.0])
    (tmp_path / "mine.html").write_text("precious")
    with pytest.raises(ConfigError, match=r"mine\.html exists"):
        write_report(run, tmp_path / "mine.html")
    assert (tmp_path / "mine.html").read_text() == "precious"
    assert write_report(run, tmp_path / "other.html") == write_report(run, tmp_path / "other.html")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["mine.html", "other.html", "run"]
    with pytest.raises(ConfigError, match="cannot write"):
        write_report(run, tmp_path / "nowhere" / "page.html")


def test_runs_stand_side_by_side(tmp_path: Path) -> None:
    one = write_run(tmp_path / "one", [4.0, 2.0], ASKED, config="seed = 0\noptimizer = dict(lr=1e-3)\n")
    two = write_run(
        tmp_path / "two",
        [4.0, 1.0, 0.5],
        ASKED,
        finished=False,
        config="seed = 0\noptimizer = {'lr': 0.002}\n",
    )
    page = Parsed(write_comparison([one, two], tmp_path / "c.html").read_text(encoding="utf-8"))
    assert_obeys_nobody(page)
    assert "3 (not finished)" in page.by_id["figures"]
    assert "optimizer" in page.by_id["configs"]
    assert "seed" not in page.by_id["configs"]
    labels = [each["aria-label"] or "" for each in page.attributes("svg")]
    assert "Training loss: one 4 → 2, two 4 → 0.5" in labels
    assert page.by_id["questions"].count("It is metrics.jsonl.") == 2


def test_equal_names_are_told_apart_by_their_paths(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / each / "run", [4.0, 2.0]) for each in ("a", "b")]
    page = Parsed(write_comparison(runs, tmp_path / "c.html").read_text(encoding="utf-8"))
    for each in runs:
        assert str(each) in page.by_id["figures"]
    assert "the same" in page.by_id["configs"]


@pytest.mark.parametrize("count", [1, 9])
def test_one_run_is_no_comparison(tmp_path: Path, count: int) -> None:
    with pytest.raises(ConfigError, match="expected 2 to 8"):
        write_comparison([tmp_path] * count, tmp_path / "c.html")


def test_a_browser_runs_nothing_of_a_hostile_answer(tmp_path: Path) -> None:
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium is installed, and a page is tried in one here")
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

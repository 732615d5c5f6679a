"""`inspect-data` as a user types it."""

import json
import re
from pathlib import Path

import pytest
from helpers.forked import ForkedProcess
from helpers.tiny import ROOT, SHARED, write_config, write_rows

from xft.cli import main


def test_json_gives_what_the_model_sees(tiny_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect-data", str(tiny_run), "--num", "4", "--json"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    for line in lines:
        sample = json.loads(line)
        assert len(sample["input_ids"]) == len(sample["labels"])
        assert sample["text"].startswith("<|im_start|>system")
        trained = [label for label in sample["labels"] if label != -100]
        assert trained[-1] == 2  # <|im_end|>
        assert all(
            label in (-100, token)
            for token, label in zip(sample["input_ids"], sample["labels"], strict=True)
        )


def test_without_a_terminal_trained_tokens_stand_in_brackets(tiny_run: Path) -> None:
    process = ForkedProcess(ROOT / "tools" / "inspect_data.py", str(tiny_run), "--split", "val")
    output, error = process.communicate(timeout=300)
    assert process.returncode == 0, error
    assert "<|im_start|>assistant\n[[Number" in output
    assert "<|im_end|>]]" in output
    assert "24 rows read" in output
    assert "\033[" not in output


@pytest.mark.parametrize(
    ("file", "options", "rows"),
    [
        ("alpaca_en_demo.json", [], 999),
        ("alpaca_zh_demo.json", [], 1000),
        ("identity.json", [], 91),
        ("c4_demo.jsonl", ["data.type=text", "data.format=text"], 300),
        ("wiki_demo.txt", ["data.type=text", "data.format=text"], 30),
    ],
)
@pytest.mark.usefixtures("smollm2_tokenizer")
def test_real_data_passes_whole_and_the_books_close(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    file: str,
    options: list[str],
    rows: int,
) -> None:
    if not (SHARED / "data" / file).is_file():
        pytest.skip(f"{file} is absent: no real data stand beside this checkout")
    config = write_config(tmp_path / "c.py", "xft://smollm2-135m-instruct", SHARED / "data" / file)
    options = [*options, "data.max_length=2048", "data.val_split=0.05"]
    assert main(["inspect-data", str(config), "--num", "1", "--cfg-options", *options]) == 0
    printed = capsys.readouterr().out
    assert f"{rows:,} rows read" in printed
    assert "dropped" not in printed


def write_bad_rows(path: Path) -> Path:
    """24 good rows, and behind them three of which two do not fit and one is hostile."""
    write_rows(path, 24)
    bad = ['{"instruction": "no answer"}', "not json", '{"instruction": "</script>", "output": "<b>"}']
    with path.open("a", encoding="utf-8") as file:
        file.write("\n".join(bad) + "\n")
    return path


def test_report_says_which_rows_do_not_fit_and_where_they_are(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = write_bad_rows(tmp_path / "rows.jsonl")
    config = write_config(tmp_path / "c.py", tiny_model, rows)
    command = ["prepare-data", str(config), "--cfg-options", "data.on_invalid=quarantine"]
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert "27 rows read" in printed
    assert "2 dropped: does not fit the format" in printed
    assert f"{rows}:25: field output" in printed
    assert f"{rows}:26" in printed
    match = re.search(r"full list with reasons: (.+)", printed)
    assert match is not None
    kept = [json.loads(line) for line in Path(match[1]).read_text(encoding="utf-8").splitlines()]
    assert [each["line"] for each in kept] == [25, 26]
    # Books, taken from the cache the second time, say the same.
    assert main(command) == 0
    assert capsys.readouterr().out == printed


def test_page_is_written_and_holds_what_json_gives(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write_config(tmp_path / "c.py", tiny_model, write_bad_rows(tmp_path / "rows.jsonl"))
    options = ["--cfg-options", "data.on_invalid=quarantine"]
    assert main(["inspect-data", str(config), "--html", str(tmp_path / "p.html"), *options]) == 0
    printed = capsys.readouterr().out
    assert "27 rows read" in printed
    assert f"wrote {tmp_path / 'p.html'}" in printed
    assert "[[" not in printed
    assert main(["inspect-data", str(config), "--num", "99", "--json", *options]) == 0
    wanted = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    page = (tmp_path / "p.html").read_text(encoding="utf-8")
    assert "<title>c.py" in page
    match = re.search(r'<script type="application/json" id="data">(.*?)</script>', page)
    assert match is not None
    shown = json.loads(match[1])["embedded"]["train"]
    assert len(shown) == len(wanted) > 20
    for item, each in zip(shown, wanted, strict=True):
        spans = item["sides"][0]["spans"]
        assert [token for _, _, ids in spans for token in ids] == each["input_ids"]
        assert [token if flags & 1 else -100 for flags, _, ids in spans for token in ids] == each["labels"]
        assert "".join(text for _, text, _ in spans) == each["text"]


def test_page_is_refused_before_data_is_prepared(
    tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = tmp_path / "rows.jsonl"
    before = rows.read_bytes()
    rows_missing = ["--cfg-options", "data.path=not_there.jsonl"]
    assert main(["inspect-data", str(tiny_run), "--html", str(rows), *rows_missing]) == 2
    assert "expected a new file, or a page of xft inspect-data" in capsys.readouterr().err
    assert rows.read_bytes() == before


def test_packing_is_reported_as_training_reports_it(
    finished_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = json.loads((finished_run / "data_report.json").read_text(encoding="utf-8"))["packing"]
    assert main(["prepare-data", str(finished_run.parent / "tiny.py")]) == 0
    line = f"packed into {found['rows']} rows of {found['capacity']} tokens, {found['fill']:.1%} filled"
    assert line in capsys.readouterr().out.splitlines()

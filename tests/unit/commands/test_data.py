"""``xft inspect-data`` and ``xft prepare-data``."""

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from xft import cli
from xft.data import DataReport, PreparedData
from xft.reporting import data_page, inspect_samples
from xft.types import Sample

pytestmark = pytest.mark.usefixtures("empty_config")


class Letters:
    """A tokenizer of one letter a token: 0 is a, 1 is b."""

    added_tokens_decoder: dict[int, Any] = {}  # noqa: RUF012 - no test changes it

    def decode(self, token_ids: list[int], **_: object) -> str:
        return "".join(chr(ord("a") + token) for token in token_ids)


@pytest.fixture
def prepared(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, list[str]]]:
    """Two training samples and one for validation instead of those of a config; the calls."""

    def sample(ids: list[int], labels: list[int]) -> Sample:
        return Sample(np.array(ids, np.int32), np.array(labels, np.int32), Letters().decode(ids))

    train = [sample([0, 1, 2], [-100, 1, 2]), sample([3, 4], [-100, 4])]
    val = [sample([5, 6], [-100, 6])]
    calls: list[tuple[str, list[str]]] = []

    def prepare(config: str, overrides: list[str], safe_config: bool) -> inspect_samples.Inspection:
        calls.append((config, overrides))
        counts: Counter[str] = Counter()
        report = DataReport(rows_read=3, rows_train=2, rows_val=1, rows_dropped=counts)
        return inspect_samples.Inspection(PreparedData(train, val, report), Letters(), None)

    monkeypatch.setattr(inspect_samples, "prepare", prepare)
    return calls


def test_inspect_data_json_prints_one_object_per_sample(
    prepared: list[tuple[str, list[str]]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["inspect-data", "c.py", "--json", "--cfg-options", "a=1"]) == 0
    assert prepared == [("c.py", ["a=1"])]
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == [
        {"input_ids": [0, 1, 2], "labels": [-100, 1, 2], "text": "abc"},
        {"input_ids": [3, 4], "labels": [-100, 4], "text": "de"},
    ]


def test_inspect_data_in_a_pipe_marks_targets_without_color(
    prepared: list[tuple[str, list[str]]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["inspect-data", "c.py", "--num", "1"]) == 0
    out = capsys.readouterr().out
    assert "a[[bc]]" in out
    assert "d[[e]]" not in out
    assert "\033" not in out
    assert re.search(r"\b3 rows read", out)
    assert re.search(r"\b2 train", out)
    assert re.search(r"\b1 val", out)


def test_inspect_data_split_val_prints_the_validation_samples(
    prepared: list[tuple[str, list[str]]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["inspect-data", "c.py", "--split", "val"]) == 0
    out = capsys.readouterr().out
    assert "f[[g]]" in out
    assert "a[[bc]]" not in out


@pytest.mark.usefixtures("prepared")
@pytest.mark.parametrize(("num", "printed"), [("0", 0), ("-3", 0), ("1", 1), ("9", 2)])
def test_inspect_data_num_limits_the_printed_samples(
    capsys: pytest.CaptureFixture[str], num: str, printed: int
) -> None:
    assert cli.main(["inspect-data", "c.py", "--num", num]) == 0
    assert capsys.readouterr().out.count("--- train ") == printed


@pytest.mark.usefixtures("prepared")
@pytest.mark.parametrize(
    ("num_others", "text"), [(0, "d.html: open it"), (2, "2 files of samples in d_samples")]
)
def test_inspect_data_html_writes_the_page_and_prints_no_samples(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    num_others: int,
    text: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "c.py").touch()
    calls: list[tuple[Any, ...]] = []

    def write_data_page(*arguments: Any) -> list[Path]:
        calls.append(arguments[:2])
        return [Path("d.html"), *(Path(f"d_samples/{number}.js") for number in range(num_others))]

    monkeypatch.setattr(data_page, "write_data_page", write_data_page)
    assert cli.main(["inspect-data", "folder/c.py", "--html", "d.html"]) == 0
    assert calls == [("d.html", "c.py")]
    out = capsys.readouterr().out
    assert "--- train" not in out
    assert text in out


def test_inspect_data_html_that_cannot_be_written_is_refused_before_the_data_is_read(
    prepared: list[tuple[str, list[str]]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["inspect-data", "c.py", "--html", str(tmp_path / "no" / "d.html")]) == 2
    assert "--html" in capsys.readouterr().err
    assert prepared == []


def test_prepare_data_prints_the_summary_only(
    prepared: list[tuple[str, list[str]]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["prepare-data", "c.py", "--cfg-options", "a=1"]) == 0
    assert prepared == [("c.py", ["a=1"])]
    out = capsys.readouterr().out
    assert re.search(r"\b3 rows read", out)
    assert "---" not in out

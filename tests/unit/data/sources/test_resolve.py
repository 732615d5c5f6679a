"""Locations: what a path may name, how rows are chosen, and what a fingerprint depends on."""

import json
import os
import re
import shutil
from collections import Counter
from pathlib import Path

import pytest

from xft.data.sources import DataSource, RecordReader, fingerprint, parse, resolve_source
from xft.errors import ConfigError


def write(file: Path, text: str = '{"a": 1}\n') -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    return file


def numbered(file: Path, count: int, begin: int = 0) -> Path:
    return write(file, "".join(f'{{"n": {n}}}\n' for n in range(begin, begin + count)))


def numbers(path: str, seed: int = 0) -> list[int]:
    return [parse(location, raw)["n"] for location, raw in RecordReader(resolve_source(path), seed=seed)]


def names(folder: Path, path: str) -> list[str]:
    return [each.relative_to(folder).as_posix() for each in resolve_source(path).files]


def not_located(path: str) -> str:
    with pytest.raises(ConfigError) as caught:
        resolve_source(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# Files, folders, globs


def test_file_is_one_file(tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl")
    source = resolve_source(str(file))
    assert source == DataSource(str(file), (file,), None, None)
    assert source.size == 9


def test_folder_gives_its_data_files_sorted_and_from_below(tmp_path: Path) -> None:
    for name in ("b.jsonl", "a/2.csv", "a/10.csv.gz", "c.parquet", "x.jsonl/part.json"):
        write(tmp_path / name)
    for name in ("README.md", "readme.txt", ".hidden.jsonl", ".git/a.jsonl", "a/_SUCCESS", "b.jsonl.lock",
                 "state.json", "dataset_info.json", "LICENSE"):  # fmt: skip
        write(tmp_path / name)
    assert names(tmp_path, str(tmp_path)) == [
        "a/10.csv.gz",
        "a/2.csv",
        "b.jsonl",
        "c.parquet",
        "x.jsonl/part.json",
    ]
    assert names(tmp_path, str(tmp_path / "x.jsonl")) == ["x.jsonl/part.json"]


def test_folder_with_something_unknown_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl")
    write(tmp_path / "b.xlsx")
    assert f"{tmp_path / 'b.xlsx'} ends in '.xlsx'; expected one of .json, .jsonl" in not_located(
        str(tmp_path)
    )


def test_folder_without_data_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "README.md")
    assert f"{tmp_path} holds no data; expected files (.json, .jsonl" in not_located(str(tmp_path))


def test_linked_folders_are_read_once(tmp_path: Path) -> None:
    write(tmp_path / "data" / "a.jsonl")
    write(tmp_path / "beside" / "b.jsonl")
    (tmp_path / "data" / "link").symlink_to(tmp_path / "beside")
    (tmp_path / "data" / "loop").symlink_to(tmp_path / "data")
    assert names(tmp_path, str(tmp_path / "data")) == ["data/a.jsonl", "data/link/b.jsonl"]


def test_data_set_with_splits_wants_one_of_them(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    split = datasets.Dataset.from_list([{"text": "x"}])
    datasets.DatasetDict({"train": split, "test": split}).save_to_disk(str(tmp_path / "saved"))
    assert f"name it, such as {tmp_path / 'saved' / 'train'}" in not_located(str(tmp_path / "saved"))
    assert len(resolve_source(str(tmp_path / "saved" / "train")).files) == 1


def test_glob_gives_its_matches_sorted(tmp_path: Path) -> None:
    for name in ("b.jsonl", "a.jsonl", "c.csv", "deep/er/d.jsonl", "README.md"):
        write(tmp_path / name)
    assert names(tmp_path, f"{tmp_path}/*.jsonl") == ["a.jsonl", "b.jsonl"]
    assert names(tmp_path, f"{tmp_path}/**/*.jsonl") == ["a.jsonl", "b.jsonl", "deep/er/d.jsonl"]
    assert names(tmp_path, f"{tmp_path}/*") == ["a.jsonl", "b.jsonl", "c.csv"]
    assert f"{tmp_path}/*.txt does not exist" in not_located(f"{tmp_path}/*.txt")


def test_file_may_have_the_marks_of_globs_and_numbers_in_its_name(tmp_path: Path) -> None:
    for name in ("a[1].jsonl", "b#7.jsonl", "c.jsonl#5.jsonl", "data#1/d.jsonl"):
        file = write(tmp_path / name)
        assert resolve_source(str(file)) == DataSource(str(file), (file,), None, None)
    assert resolve_source(f"{tmp_path}/b#7.jsonl#3").rows == 3
    assert resolve_source(f"{tmp_path}/data#1").rows is None


def test_home_is_expanded_and_assets_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    write(tmp_path / "a.jsonl")
    assert resolve_source("~/a.jsonl").files == (tmp_path / "a.jsonl",)
    assert resolve_source("xft://facts.jsonl").files[0].name == "facts.jsonl"
    assert len(list(RecordReader(resolve_source("xft://facts.jsonl#3")))) == 3


# What is not found


@pytest.mark.parametrize(
    "name", ["missing.json", "missing.jsonl", "missing", "folder/missing.csv", "a\0b.json"]
)
def test_missing_file_is_refused(tmp_path: Path, name: str) -> None:
    path = str(tmp_path / name)
    message = not_located(path)
    assert f"{path} does not exist" in message
    assert ".jsonl" in message


def test_missing_file_names_a_close_one(tmp_path: Path) -> None:
    (tmp_path / "support.csv").touch()
    assert "did you mean 'support.csv'?" in not_located(str(tmp_path / "suport.csv"))
    assert "did you mean" not in not_located(str(tmp_path / "zz.json"))


def test_spreadsheet_is_to_be_saved_as_csv(tmp_path: Path) -> None:
    (tmp_path / "a.xlsx").touch()
    assert "save the sheet as CSV in UTF-8" in not_located(str(tmp_path / "a.xlsx"))


def test_relative_folder_is_no_data_set_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data" / "rows").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert "data/rows holds no data" in not_located("data/rows")
    assert "data/rowz does not exist" in not_located("data/rowz")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("a.xlsx", "ends in '.xlsx'"),
        ("a", "ends in ''"),
        ("a.xlsx.gz", "ends in '.xlsx.gz'"),
        ("a.gz", "ends in '.gz'"),
        ("a.parquet.gz", "ends in '.parquet.gz', and .parquet is compressed inside: unpack it"),
    ],
)
def test_unknown_suffix_is_refused_with_the_known_ones(tmp_path: Path, name: str, said: str) -> None:
    message = not_located(str(write(tmp_path / name)))
    assert f"{said}; expected one of .json, .jsonl, .ndjson, .csv, .tsv, .txt, .parquet, .arrow" in message


def test_what_is_neither_file_nor_folder_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jsonl")
    assert "is neither a file nor a folder" in not_located(str(tmp_path / "pipe.jsonl"))


def test_unknown_asset_is_refused_with_the_shipped_ones() -> None:
    message = not_located("xft://no_such_rows.jsonl")
    assert re.search(r"no_such_rows\.jsonl is not shipped with xft", message)


# Some of the rows


def test_number_of_rows_is_drawn_in_the_order_of_the_file(tmp_path: Path) -> None:
    path = str(numbered(tmp_path / "a.jsonl", 1000))
    chosen = numbers(f"{path}#100")
    assert len(chosen) == len(set(chosen)) == 100
    assert chosen == sorted(chosen)
    assert chosen == numbers(f"{path}#100")
    assert chosen != numbers(f"{path}#100", seed=1)
    reader = RecordReader(resolve_source(f"{path}#100"))
    assert (len(list(reader)), reader.available) == (100, 1000)


def test_every_row_is_drawn_equally_often(tmp_path: Path) -> None:
    """3 of 12 rows, 2,000 times: each row is expected 500 times, with a standard deviation of
    sqrt(2000 · 1/4 · 3/4) = 19.4; 100 is beyond five of them."""
    path = str(numbered(tmp_path / "a.jsonl", 12))
    counts = Counter(n for seed in range(2000) for n in numbers(f"{path}#3", seed))
    assert sorted(counts) == list(range(12))
    assert all(abs(count - 500) < 100 for count in counts.values())


def test_more_rows_than_there_are_gives_all(tmp_path: Path) -> None:
    assert numbers(f"{numbered(tmp_path / 'a.jsonl', 5)}#500") == [0, 1, 2, 3, 4]


def test_rows_are_drawn_from_all_files_together(tmp_path: Path) -> None:
    numbered(tmp_path / "a.jsonl", 500)
    numbered(tmp_path / "b.jsonl", 500, 500)
    chosen = numbers(f"{tmp_path}/*.jsonl#100")
    assert len(chosen) == 100
    assert 20 < sum(n < 500 for n in chosen) < 80


@pytest.mark.parametrize("number", ["0", "abc", "", "-1", "1.5", "٣", "1_000", " 3"])
def test_number_of_rows_that_is_none_is_refused(tmp_path: Path, number: str) -> None:
    path = str(write(tmp_path / "a.jsonl"))
    message = not_located(f"{path}#{number}")
    assert f"{'#' + number!r} is no number of rows; expected more than 0" in message


# Fingerprints


def test_fingerprint_depends_on_names_and_contents_and_rows_alone(tmp_path: Path) -> None:
    folder = tmp_path / "one"
    write(folder / "a.jsonl")
    write(folder / "b" / "c.jsonl", json.dumps({"a": 2}))
    first = fingerprint(resolve_source(str(folder)), "train")
    shutil.copytree(folder, tmp_path / "two")
    assert fingerprint(resolve_source(str(tmp_path / "two")), "train") == first
    assert fingerprint(resolve_source(str(folder)), "test") == first, "files have no splits"
    assert fingerprint(resolve_source(f"{folder}#5"), "train") != first
    (tmp_path / "two" / "a.jsonl").rename(tmp_path / "two" / "z.jsonl")
    renamed = fingerprint(resolve_source(str(tmp_path / "two")), "train")
    write(folder / "a.jsonl", '{"a": 7}\n')
    changed = fingerprint(resolve_source(str(folder)), "train")
    assert len({first, renamed, changed}) == 3
    assert re.fullmatch("[0-9a-f]{64}", first)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the platform has no named pipes")
@pytest.mark.parametrize("ask", ["", "*.jsonl"])
def test_pipe_among_the_data_is_refused_by_name(tmp_path: Path, ask: str) -> None:
    (tmp_path / "a.jsonl").write_text("{}\n")
    os.mkfifo(tmp_path / "pipe.jsonl")
    with pytest.raises(ConfigError) as caught:
        resolve_source(str(tmp_path / ask) if ask else str(tmp_path))
    assert caught.value.key == "data.path"
    assert caught.value.got == str(tmp_path / "pipe.jsonl")


@pytest.mark.skipif(os.name != "posix", reason="the platform has no device files")
def test_link_to_a_device_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "zero.jsonl").symlink_to("/dev/zero")
    (tmp_path / "gone.jsonl").symlink_to(tmp_path / "nothing.jsonl")
    for name in ("zero.jsonl", "gone.jsonl"):
        with pytest.raises(ConfigError) as caught:
            resolve_source(str(tmp_path / name))
        assert caught.value.got == str(tmp_path / name)
    with pytest.raises(ConfigError) as caught:
        resolve_source(str(tmp_path))
    assert caught.value.got == str(tmp_path / "gone.jsonl")

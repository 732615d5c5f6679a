"""File name to reader."""

from pathlib import Path

import pytest

from xft.data.sources.file_types import COMPRESSIBLE, READERS, file_type


@pytest.mark.parametrize("suffix", sorted(READERS))
def test_file_type_of_a_plain_file_is_its_suffix(suffix: str) -> None:
    assert file_type(Path(f"rows.v2{suffix}")) == suffix
    assert file_type(Path(f"ROWS{suffix.upper()}")) == suffix


@pytest.mark.parametrize("codec", [".gz", ".zst", ".GZ"])
@pytest.mark.parametrize("suffix", sorted(READERS))
def test_file_type_of_a_compressed_file_is_the_inner_suffix_of_row_formats(suffix: str, codec: str) -> None:
    expected = suffix if suffix in COMPRESSIBLE else None
    assert file_type(Path(f"rows{suffix}{codec}")) == expected


@pytest.mark.parametrize(
    "name", ["rows", "rows.xlsx", "rows.gz", "rows.xlsx.gz", ".jsonl", "rows.jsonl.bz2"]
)
def test_file_type_of_other_files_is_none(name: str) -> None:
    assert file_type(Path(name)) is None

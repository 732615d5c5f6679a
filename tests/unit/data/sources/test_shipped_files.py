"""Files that ``xft://NAME`` refers to."""

from pathlib import Path

import pytest

from xft.data.emoji import rows
from xft.data.sources import resolve_source
from xft.data.sources.shipped_files import resolve_file, shipped_file
from xft.errors import ConfigError
from xft.utils import paths


def test_asset_is_a_file_of_the_package() -> None:
    assert shipped_file("facts.jsonl") == paths.asset("facts.jsonl")


def test_rows_about_emoji_are_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / rows.NAMES[0]
    file.touch()
    monkeypatch.setattr(rows, "unpack", lambda name: tmp_path / name)
    assert shipped_file(rows.NAMES[0]) == file
    assert resolve_source(f"xft://{rows.NAMES[0]}").files == (file,)


def test_other_name_is_an_error() -> None:
    with pytest.raises(ConfigError) as error:
        shipped_file("emoji.jsonl")
    assert error.value.got == "emoji.jsonl"


def test_path_without_scheme_is_itself() -> None:
    assert resolve_file("a/rows.jsonl") == Path("a/rows.jsonl")
    assert resolve_file("xft://facts.jsonl") == paths.asset("facts.jsonl")

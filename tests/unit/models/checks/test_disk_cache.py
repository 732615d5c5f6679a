"""Measurements on the disk."""

from pathlib import Path

import pytest

from xft.models.checks import disk_cache
from xft.models.checks.disk_cache import load_check, store_check
from xft.models.checks.measure import AttentionCheck
from xft.models.segments import SegmentedClass

CHECK = AttentionCheck(0.0, float("inf"), 1e-15, 0.5, segmented=(SegmentedClass("Mixer", True),))


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("XFT_CACHE", str(tmp_path))
    return tmp_path / "attention_checks"


def test_stored_check_is_loaded_for_the_same_config_and_attention() -> None:
    store_check("config", "sdpa", CHECK)
    assert load_check("config", "sdpa") == CHECK
    assert load_check("config", "eager") is None
    assert load_check("other", "sdpa") is None


def test_check_of_another_release_is_not_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    store_check("config", "sdpa", CHECK)
    monkeypatch.setattr(disk_cache, "_versions", lambda: "other")
    assert load_check("config", "sdpa") is None


@pytest.mark.parametrize("text", ["", "[]", "{", '{"segmented": []}', '{"segmented": [], "unknown": 1}'])
def test_damaged_file_is_measured_again(folder: Path, text: str) -> None:
    store_check("config", "sdpa", CHECK)
    (file,) = folder.iterdir()
    file.write_text(text)
    assert load_check("config", "sdpa") in (None, AttentionCheck())


def test_folder_that_cannot_be_written_is_no_error(folder: Path) -> None:
    folder.write_text("a file")
    store_check("config", "sdpa", CHECK)
    assert load_check("config", "sdpa") is None

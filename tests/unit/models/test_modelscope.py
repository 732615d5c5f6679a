"""Models of ModelScope, with a stand-in for its package: the tests have no network."""

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from xft.errors import ModelError
from xft.models import modelscope
from xft.models.hub import resolve_path
from xft.models.loading import load_tokenizer

PACKAGE = "modelscope.hub.snapshot_download"


@pytest.fixture(autouse=True)
def forget_downloads() -> Iterator[None]:
    modelscope.download.cache_clear()
    yield
    modelscope.download.cache_clear()


def _install(monkeypatch: pytest.MonkeyPatch, folder: Path) -> list[tuple[str, bool]]:
    calls: list[tuple[str, bool]] = []
    package = ModuleType(PACKAGE)

    def snapshot_download(model_id: str, local_files_only: bool) -> str:
        calls.append((model_id, local_files_only))
        if model_id != "owner/name":
            raise ValueError("no such\nmodel")
        return str(folder)

    package.snapshot_download = snapshot_download  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, PACKAGE, package)
    return calls


def test_model_is_downloaded_once_and_loaded_from_the_folder(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    calls = _install(monkeypatch, base)
    assert resolve_path("modelscope://owner/name") == str(base)
    assert len(load_tokenizer("modelscope://owner/name")) == len(load_tokenizer(str(base)))
    assert calls == [("owner/name", False)]


def test_offline_mode_looks_in_the_cache_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    calls = _install(monkeypatch, tmp_path)
    assert resolve_path("modelscope://owner/name") == str(tmp_path)
    assert calls == [("owner/name", True)]


@pytest.mark.parametrize("path", ["modelscope://name", "modelscope://a/b/c", "modelscope://owner/missing"])
def test_other_names_raise_model_error(path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _install(monkeypatch, tmp_path)
    with pytest.raises(ModelError) as error:
        resolve_path(path)
    assert error.value.key == "model.path"
    assert str(error.value.got).startswith(path)


def test_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, PACKAGE, None)
    with pytest.raises(ModelError) as error:
        resolve_path("modelscope://owner/name")
    assert error.value.fix == "pip install modelscope"

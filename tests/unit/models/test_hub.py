from pathlib import Path

import pytest

from xft.errors import ModelError
from xft.models import bundled_model
from xft.models.hub import hub_options, load_error, resolve_path


def test_resolve_path_of_folder_expands_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    assert resolve_path("~/model") == str(tmp_path / "model")


def test_resolve_path_of_hub_name_returns_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert resolve_path("owner/name") == "owner/name"


def test_resolve_path_of_bundled_model_unpacks_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundled_model, "unpack", lambda: Path("/unpacked"))
    assert resolve_path(bundled_model.NAME) == "/unpacked"


@pytest.mark.parametrize(
    "path",
    ["file.bin", "xft://other", "./owner/name", "/owner/name", "~/name", "name", "a/b/c", "folder/x"],
)
def test_resolve_path_of_anything_else_raises_model_error(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "file.bin").touch()
    (tmp_path / "folder").mkdir()
    with pytest.raises(ModelError) as error:
        resolve_path(path)
    assert (error.value.key, error.value.got) == ("model.path", path)


@pytest.mark.parametrize("trusted", [True, False])
def test_hub_options_allow_no_download_for_a_folder(trusted: bool, tmp_path: Path) -> None:
    assert hub_options(str(tmp_path), trusted) == {"local_files_only": True, "trust_remote_code": trusted}
    assert hub_options("owner/name", trusted)["local_files_only"] is False


def test_load_error_is_one_line_and_mentions_the_network_for_hub_names_only(tmp_path: Path) -> None:
    error = OSError(f"first {'x' * 400}\nsecond")
    hub, folder = (load_error("model", path, error) for path in ("owner/name", str(tmp_path)))
    for line in (hub, folder):
        assert "first" in line
        assert "second" not in line
        assert len(line) < 500
    assert ("network" in hub, "network" in folder) == (True, False)
    assert "KeyError" in load_error("model", "owner/name", KeyError())


def test_load_error_without_memory_does_not_blame_the_network() -> None:
    line = load_error(
        "model", "owner/name", RuntimeError("unable to mmap 9 bytes: Cannot allocate memory (12)")
    )
    assert "network" not in line
    assert "memory limit" in line

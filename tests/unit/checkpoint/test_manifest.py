"""Any change to a listed file is detected, and a manifest cannot refer to files outside its folder."""

import hashlib
import json
import os
from pathlib import Path

import pytest

from xft.checkpoint import manifest
from xft.checkpoint.manifest import (
    MANIFEST,
    find_corruption,
    fsync_and_verify,
    read_manifest,
    write_manifest,
)
from xft.errors import CheckpointError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "folder"
    (folder / "deep").mkdir(parents=True)
    (folder / "state.json").write_text('{"step": 1}')
    (folder / "tensors").write_bytes(bytes(range(200)))
    (folder / "deep" / "weights").write_bytes(b"weights of 1")
    write_manifest(folder)
    return folder


def test_write_manifest_lists_size_and_sha256_of_every_file(folder: Path) -> None:
    entries = read_manifest(folder)
    assert entries.keys() == {"state.json", "tensors", "deep/weights"}
    assert entries["deep/weights"] == {"size": 12, "sha256": hashlib.sha256(b"weights of 1").hexdigest()}
    assert find_corruption(folder) is None


def test_write_manifest_verified_entry_is_taken_unread(folder: Path) -> None:
    entry = {"size": 1, "sha256": "0"}
    write_manifest(folder, {"tensors": entry})
    assert read_manifest(folder)["tensors"] == entry


@pytest.mark.parametrize("name", ["state.json", "tensors", "deep/weights", MANIFEST])
@pytest.mark.parametrize("change", ["flip", "truncate", "remove", "link", "empty"])
def test_find_corruption_any_change_to_any_file_is_found(
    tmp_path: Path, folder: Path, name: str, change: str
) -> None:
    file = folder / name
    content = file.read_bytes()
    middle = len(content) // 2
    if change == "flip":
        file.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
    elif change == "truncate":
        file.write_bytes(content[:-1] if name != MANIFEST else content[:middle])
    elif change == "empty":
        file.write_bytes(b"")
    else:
        file.unlink()
    if change == "link" and name != MANIFEST:
        # The same content, but outside the folder.
        (tmp_path / "outside").write_bytes(content)
        file.symlink_to(tmp_path / "outside")
    problem = find_corruption(folder)
    assert problem is not None
    assert name in problem or name == MANIFEST


def test_find_corruption_skipped_file_is_not_read(folder: Path) -> None:
    (folder / "tensors").write_bytes(bytes(200))
    assert "tensors" in str(find_corruption(folder))
    assert find_corruption(folder, skip=["tensors"]) is None


def test_find_corruption_symlinked_folder_is_found(tmp_path: Path, folder: Path) -> None:
    os.rename(folder / "deep", tmp_path / "deep")
    (folder / "deep").symlink_to(tmp_path / "deep")
    assert "deep/weights is not a regular file" in str(find_corruption(folder))


def test_find_corruption_required_file_not_listed_is_found(folder: Path) -> None:
    assert find_corruption(folder, required=["tensors", "missing"]) == f"{MANIFEST} does not list missing"


def test_find_corruption_missing_folder_is_found(tmp_path: Path) -> None:
    assert find_corruption(tmp_path / "none") == "the folder does not exist"


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "a/../../outside", "", "a\\..\\b"])
def test_read_manifest_path_outside_the_folder_raises(folder: Path, name: str) -> None:
    content = json.loads((folder / MANIFEST).read_text())
    content["files"][name] = {"size": 0, "sha256": ""}
    (folder / MANIFEST).write_text(json.dumps(content))
    with pytest.raises(CheckpointError) as error:
        read_manifest(folder)
    assert (error.value.key, error.value.got) == ("manifest.json: files", name)
    assert repr(name)[1:-1] in str(find_corruption(folder))


def test_read_manifest_other_format_raises(folder: Path) -> None:
    (folder / MANIFEST).write_text('{"format": 2, "files": {}}')
    with pytest.raises(CheckpointError) as error:
        read_manifest(folder)
    assert (error.value.key, error.value.got) == ("manifest.json: format", 2)


def test_fsync_and_verify_disk_returns_other_content_raises(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = manifest._fsync_and_digest

    def digest_and_flip(path: Path) -> dict[str, object]:
        entry = digest(path)
        path.write_bytes(b"other")
        return entry

    monkeypatch.setattr(manifest, "_fsync_and_digest", digest_and_flip)
    (tmp_path / "file").write_bytes(b"written")
    with pytest.raises(CheckpointError) as error:
        fsync_and_verify(tmp_path / "file")
    assert error.value.key == "file"
    assert error.value.got == hashlib.sha256(b"other").hexdigest()

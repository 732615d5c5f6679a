"""Uploads of exports to a hub."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from xft.errors import CheckpointError, ConfigError
from xft.export import push
from xft.utils.hub_access import network_errors


class Hub:
    """Replaces ``huggingface_hub.HfApi``."""

    calls: list[tuple[str, Any]] = []  # noqa: RUF012 - shared by all instances

    def create_repo(self, name: str, **options: Any) -> None:
        self.calls.append((name, options))

    def upload_folder(self, **options: Any) -> SimpleNamespace:
        self.calls.append(("upload", options))
        return SimpleNamespace(repo_url=f"https://hub/{options['repo_id']}")


def test_push_creates_a_private_repository_and_uploads_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.HfApi", Hub)
    Hub.calls.clear()
    (tmp_path / "xft_metadata.json").write_text(
        json.dumps({"base": "/home/somebody/base", "dtype": "float32"})
    )
    assert push.push(tmp_path, "owner/name") == "https://hub/owner/name"
    (name, made), (_, sent) = Hub.calls
    assert (name, made["private"]) == ("owner/name", True)
    assert sent["folder_path"] == tmp_path
    assert sent["ignore_patterns"] == ["xft_metadata.json"]


def test_push_to_unreachable_hub_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Any, *args: Any, **options: Any) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(Hub, "create_repo", refuse)
    monkeypatch.setattr("huggingface_hub.HfApi", Hub)
    with pytest.raises(CheckpointError, match=r"owner/name \(no route to host\)") as error:
        push.push(tmp_path, "owner/name")
    assert (error.value.key, error.value.got) == ("--push", "owner/name")


def test_push_names_an_error_of_the_http_client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Any, *args: Any, **options: Any) -> None:
        raise network_errors()[0]("connection reset")

    monkeypatch.setattr(Hub, "create_repo", refuse)
    monkeypatch.setattr("huggingface_hub.HfApi", Hub)
    with pytest.raises(CheckpointError, match=r"connection reset"):
        push.push(tmp_path, "owner/name")


def test_check_push_refuses_an_adapter_of_a_local_base(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    (tmp_path / "xft_metadata.json").write_text(
        json.dumps({"base": "/home/somebody/base", "dtype": "float32"})
    )
    with pytest.raises(ConfigError) as error:
        push.check_push("owner/name", str(tmp_path), merged=False)
    assert error.value.got == "an adapter of 'base', which is not on a hub"
    push.check_push("owner/name", str(tmp_path), merged=True)


def test_check_push_refuses_a_name_without_owner(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        push.check_push("name", str(tmp_path), merged=True)
    assert (error.value.key, error.value.got, error.value.expected) == ("--push", "name", "OWNER/NAME")

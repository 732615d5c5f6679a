"""Checks of GPUs and folders."""

from pathlib import Path
from typing import Any

import pytest

from xft.doctor import system

NO_DEVICES: dict[str, Any] = {"backend": None, "devices": []}


@pytest.mark.parametrize(("backend", "text"), [(None, "CPU build"), ("12.8", "CUDA 12.8")])
def test_check_devices_warns_of_a_driver_without_a_usable_gpu(
    backend: str | None, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.which", lambda name: "/usr/bin/nvidia-smi")
    [finding] = system.check_devices({**NO_DEVICES, "backend": backend})
    assert (finding.name, finding.level) == ("cuda", "warning")
    assert text in finding.text
    assert finding.fix


def test_check_devices_lists_gpus_with_memory_and_dtype() -> None:
    gpu = {"name": "GPU", "free": 20e9, "total": 24e9, "bf16": False}
    [finding] = system.check_devices({**NO_DEVICES, "devices": [gpu]})
    assert (finding.name, finding.level) == ("cuda:0", "ok")
    assert finding.text == "GPU, 20.0 GB free of 24.0 GB, no bf16, trains in fp16"


def test_check_host_of_unwritable_cache_is_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XFT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("os.access", lambda path, mode: False)
    [finding] = [finding for finding in system.check_host() if finding.name == "cache"]
    assert finding.level == "broken"
    assert "XFT_CACHE" in finding.fix

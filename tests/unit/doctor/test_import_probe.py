"""The program that a new interpreter runs to import libraries."""

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from xft.doctor import import_probe


@dataclass
class FakeVersion:
    """``torch.version`` of a build."""

    cuda: str | None = None
    hip: str | None = None


class FakeCuda:
    """``torch.cuda`` with GPUs of these compute capabilities."""

    def __init__(self, *majors: int) -> None:
        self.majors = majors

    def device_count(self) -> int:
        return len(self.majors)

    def mem_get_info(self, index: int) -> tuple[int, int]:
        return 10 + index, 20 + index

    def get_device_capability(self, index: int) -> tuple[int, int]:
        return self.majors[index], 5

    def get_device_name(self, index: int) -> str:
        return f"GPU {index}"


@dataclass
class FakeTorch:
    """The parts of torch that the probe reads."""

    version: FakeVersion
    cuda: FakeCuda


@pytest.fixture
def emitted(monkeypatch: pytest.MonkeyPatch) -> list[Mapping[str, object]]:
    """Records instead of lines."""
    records: list[Mapping[str, object]] = []
    monkeypatch.setattr(import_probe, "emit", lambda **values: records.append(values))
    return records


def test_try_imports_announces_each_module_before_its_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, emitted: list[Mapping[str, object]]
) -> None:
    (tmp_path / "silent_for_probe.py").write_text("raise RuntimeError")
    (tmp_path / "loud_for_probe.py").write_text("raise ValueError('first line\\nsecond line')")
    monkeypatch.syspath_prepend(tmp_path)
    import_probe.try_imports(["json", "silent_for_probe", "loud_for_probe"])
    assert emitted == [
        {"begin": "json"},
        {"name": "json", "error": ""},
        {"begin": "silent_for_probe"},
        {"name": "silent_for_probe", "error": "RuntimeError: no message"},
        {"begin": "loud_for_probe"},
        {"name": "loud_for_probe", "error": "ValueError: first line"},
    ]


@pytest.mark.parametrize(
    ("version", "backend", "bf16"),
    [(FakeVersion(cuda="12.8"), "12.8", [False, True]), (FakeVersion(hip="6.2"), "6.2", [True, True])],
)
def test_report_devices_has_memory_and_bf16_of_each_gpu(
    monkeypatch: pytest.MonkeyPatch,
    emitted: list[Mapping[str, object]],
    version: FakeVersion,
    backend: str,
    bf16: list[bool],
) -> None:
    monkeypatch.setitem(sys.modules, "torch", FakeTorch(version, FakeCuda(7, 8)))  # type: ignore[arg-type]
    import_probe.report_devices()
    devices = [
        {"name": f"GPU {index}", "free": 10 + index, "total": 20 + index, "bf16": bf16[index]}
        for index in (0, 1)
    ]
    assert emitted == [{"begin": "devices"}, {"backend": backend, "devices": devices}]


def test_report_devices_of_cpu_build_has_no_backend(
    monkeypatch: pytest.MonkeyPatch, emitted: list[Mapping[str, object]]
) -> None:
    monkeypatch.setitem(sys.modules, "torch", FakeTorch(FakeVersion(), FakeCuda()))  # type: ignore[arg-type]
    import_probe.report_devices()
    assert emitted[-1] == {"backend": None, "devices": []}


def test_program_keeps_output_of_imports_out_of_its_json_lines(tmp_path: Path) -> None:
    (tmp_path / "noisy_for_probe.py").write_text("print('noise')")
    done = subprocess.run(
        [sys.executable, "-S", import_probe.__file__, "noisy_for_probe"],
        env={"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    records: list[Any] = [json.loads(line) for line in done.stdout.splitlines()]
    assert records == [{"begin": "noisy_for_probe"}, {"name": "noisy_for_probe", "error": ""}]
    assert done.stderr == "noise\n"

"""``xft doctor``: output and exit code."""

import subprocess
import sys
from pathlib import Path

import pytest

from xft import cli
from xft.doctor import Finding, imports, run_checks

ROOT = Path(__file__).resolve().parents[3]
HEAVY = ("torch", "mmengine", "transformers", "peft", "datasets", "numpy", "psutil", "packaging", "rich")


def test_doctor_without_libraries_prints_the_first_fix() -> None:
    program = (
        "import sys\n"
        f"for name in {HEAVY}: sys.modules[name] = None\n"
        "from xft.cli import main\n"
        "sys.exit(main(['doctor']))"
    )
    process = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert process.returncode == 1
    assert "pip install packaging" in process.stdout
    assert "Traceback" not in process.stderr
    assert "packaging" in process.stderr


@pytest.mark.parametrize(
    ("error", "code"), [("", 0), ("ImportError: libGL.so.1: cannot open shared object file", 1)]
)
def test_doctor_exit_code_depends_on_broken_imports(
    error: str, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    records = [{"name": "cv2", "error": error}, {"backend": None, "devices": []}]
    monkeypatch.setattr("xft.doctor.run_checks", lambda: run_checks(lambda modules: records))
    assert cli.main(["doctor"]) == code
    out = capsys.readouterr().out
    assert ("ready to train" in out) == (code == 0)
    assert (imports.INSTALL_HEADLESS_OPENCV in out) == (code == 1)
    assert "\033" not in out
    for name in ("python", "memory", "disk", "cache", "packages", "bundled model"):
        assert f" {name} " in out


def test_doctor_warnings_are_listed_and_the_exit_code_is_0(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    findings = [Finding("torch", "ok", "fine"), Finding("disk", "warning", "3 GB free")]
    monkeypatch.setattr("xft.doctor.run_checks", lambda: findings)
    assert cli.main(["doctor"]) == 0
    assert capsys.readouterr().out.endswith("ready to train; check: disk\n")

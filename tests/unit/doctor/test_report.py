"""The command ``xft doctor``: output and exit code."""

import subprocess
import sys
from pathlib import Path

import pytest

from xft import cli
from xft.doctor import Finding, format_findings, imports, run_checks

ROOT = Path(__file__).resolve().parents[3]
HEAVY = ("torch", "mmengine", "transformers", "peft", "datasets", "numpy", "psutil", "packaging", "rich")


def test_doctor_without_any_library_names_the_first_fix() -> None:
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
def test_doctor_exit_code_says_whether_training_can_start(
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


def test_format_findings_puts_the_fix_below() -> None:
    findings = [
        Finding("torch", "broken", "not installed", "pip install torch"),
        Finding("x", "ok", "fine"),
    ]
    assert format_findings(findings, color=False) == [
        "✗ torch  not installed",
        "         → pip install torch",
        "✓ x      fine",
    ]


def test_format_findings_color_adds_only_codes() -> None:
    findings = [Finding("torch", "broken", "not installed", "pip install torch")]
    colored = "\n".join(format_findings(findings, color=True))
    for code in ("\033[0m", "\033[1m", "\033[31m"):
        colored = colored.replace(code, "")
    assert colored == "\n".join(format_findings(findings, color=False))

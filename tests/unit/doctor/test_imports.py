"""Imports in a subprocess that fail, crash or hang."""

from pathlib import Path

import pytest

from xft.doctor import imports, versions


def test_probe_imports_names_the_library_that_crashes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "no_libgl.py").write_text("raise ImportError('libGL.so.1: cannot open shared object file')")
    (tmp_path / "crashes.py").write_text("print('noise'); import os; os._exit(7)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    records = imports.probe_imports(["json", "no_libgl", "no_such_module", "crashes", "json"])
    assert [(record["name"], bool(record["error"])) for record in records] == [
        ("json", False),
        ("no_libgl", True),
        ("no_such_module", True),
        ("crashes", True),
    ]
    findings = list(imports.check_imports(records, []))
    assert [(finding.name, finding.level, finding.fix) for finding in findings] == [
        ("no_libgl", "broken", imports.INSTALL_HEADLESS_OPENCV),
        ("no_such_module", "broken", "pip install no_such_module"),
        ("crashes", "broken", "pip install --force-reinstall crashes"),
    ]
    assert "code 7" in findings[-1].text


def test_probe_imports_names_the_library_that_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "hangs.py").write_text("import time; time.sleep(60)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    [finding] = imports.check_imports(imports.probe_imports(["hangs"], timeout=1.5), [])
    assert (finding.name, finding.level) == ("hangs", "broken")


def test_check_imports_does_not_repeat_a_missing_package() -> None:
    findings = versions.check_versions({"runtime": ["peft>=0.21"]}, lambda name: None)
    records = [{"name": "peft", "error": "ModuleNotFoundError: No module named 'peft'"}]
    assert list(imports.check_imports(records, findings)) == []

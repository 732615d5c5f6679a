"""Each module has a test file of the same name: ``xft/<room>/<module>.py``, ``tests/unit/<room>/test_<module>.py``."""

import json
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
EXCEPTIONS: dict[str, str] = json.loads(Path(__file__).with_name("unmirrored.json").read_text())
"""Module without a test file of its own → reason, or the test file that covers it."""


def unmirrored(package: Path, tests: Path) -> set[str]:
    """Return the modules of a package without a test file in the mirrored folder or any folder below ``tests``."""
    names = {path.name for path in tests.rglob("test_*.py")}
    modules = (path for path in package.rglob("*.py") if path.name != "__init__.py")
    return {str(path.relative_to(package.parent)) for path in modules if f"test_{path.name}" not in names}


def test_every_module_has_a_test_file_or_a_listed_reason() -> None:
    assert sorted(unmirrored(ROOT / "xft", ROOT / "tests" / "unit") - set(EXCEPTIONS)) == []


def test_listed_exceptions_exist_and_have_no_test_file() -> None:
    assert sorted(set(EXCEPTIONS) - unmirrored(ROOT / "xft", ROOT / "tests" / "unit")) == []


def test_covering_test_files_exist() -> None:
    paths = [reason for reason in EXCEPTIONS.values() if reason.startswith("tests/")]
    assert [path for path in paths if not (ROOT / path).is_file()] == []


def test_module_without_test_file_is_detected(tmp_path: Path) -> None:
    for name in ("xft/room/a.py", "xft/room/b.py", "tests/unit/room/test_a.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert unmirrored(tmp_path / "xft", tmp_path / "tests") == {"xft/room/b.py"}

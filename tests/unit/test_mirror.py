"""Each module has a test file of the same name: ``xft/<room>/<module>.py``, ``tests/unit/<room>/test_<module>.py``."""

import json
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
EXCEPTIONS: dict[str, str] = json.loads(Path(__file__).with_name("unmirrored.json").read_text())
"""Module without a test file of its own → reason, or the test file that covers it."""


def unmirrored(package: Path, tests: Path) -> set[str]:
    """Return the modules of a package without a test file in the folder of their room or any folder below it."""
    tested = {_room_and_name(path.relative_to(tests)) for path in tests.rglob("test_*.py")}
    modules = (path.relative_to(package) for path in package.rglob("*.py") if path.name != "__init__.py")
    return {
        str(Path(package.name) / path)
        for path in modules
        if _room_and_name(path.with_name(f"test_{path.name}")) not in tested
    }


def _room_and_name(path: Path) -> tuple[str, str]:
    return (path.parts[0] if len(path.parts) > 1 else "", path.name)


def test_every_module_has_a_test_file_or_a_listed_reason() -> None:
    assert sorted(unmirrored(ROOT / "xft", ROOT / "tests" / "unit") - set(EXCEPTIONS)) == []


def test_listed_exceptions_exist_and_have_no_test_file() -> None:
    assert sorted(set(EXCEPTIONS) - unmirrored(ROOT / "xft", ROOT / "tests" / "unit")) == []


def test_covering_test_files_exist() -> None:
    paths = [reason for reason in EXCEPTIONS.values() if reason.startswith("tests/")]
    assert [path for path in paths if not (ROOT / path).is_file()] == []


def test_module_without_test_file_is_detected(tmp_path: Path) -> None:
    modules = ("xft/room/inner/a.py", "xft/room/b.py", "xft/c.py")
    tests = ("tests/unit/room/test_a.py", "tests/unit/other/test_b.py", "tests/unit/test_c.py")
    for name in (*modules, *tests):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert unmirrored(tmp_path / "xft", tmp_path / "tests" / "unit") == {"xft/room/b.py"}

"""The doctor: what it says of versions, of libraries that do not load, and of the machine."""

import subprocess
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil
import pytest

from xft import cli
from xft.doctor import BROKEN, Finding, libraries, report, shown, system, version_ranges
from xft.utils import system as host

ROOT = Path(__file__).resolve().parents[3]
HEAVY = ("torch", "mmengine", "transformers", "peft", "datasets", "numpy", "psutil", "packaging", "rich")
DEVICES: dict[str, Any] = {"cuda": None, "hip": None, "mps": False, "cpu_bf16": True, "devices": []}


def level(findings: Sequence[Finding], name: str) -> tuple[str, str]:
    """Level and remedy of the one thing of that name."""
    [found] = [each for each in findings if each.name == name]
    return found.level, found.mend


def test_nothing_heavy_is_needed_to_begin() -> None:
    """With every library made impossible to import, the command still comes as far as to say so."""
    program = (
        "import sys\n"
        f"for name in {HEAVY}: sys.modules[name] = None\n"
        "from xft.cli import main\n"
        "sys.exit(main(['doctor']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.returncode == 1
    assert "packaging" in done.stdout
    assert "pip install packaging" in done.stdout
    assert "Traceback" not in done.stderr
    assert "must be mended" in done.stderr


@pytest.mark.parametrize(
    ("installed", "expected"),
    [
        ("2.9.1", ("ok", "")),
        ("2.13.0+cpu", ("ok", "")),
        ("2.14.0", ("warning", "pip install 'torch>=2.6,<2.14'")),
        ("3.0", ("warning", "pip install 'torch>=2.6,<2.14'")),
        ("2.5.1", ("broken", "pip install 'torch>=2.6,<2.14'")),
        (None, ("broken", "pip install 'torch>=2.6,<2.14'")),
    ],
)
def test_a_version_is_judged_by_the_range_that_was_tested(
    installed: str | None, expected: tuple[str, str]
) -> None:
    found = libraries.judge_versions({"runtime": ["torch>=2.6,<2.14"]}, {"torch": installed}.get)
    assert level(found, "torch") == expected


def test_what_is_optional_is_never_broken() -> None:
    group = {"logging": ["wandb>=0.31,<0.32", "tensorboard>=2.20,<3"]}
    found = libraries.judge_versions(group, {"wandb": "0.1"}.get)
    assert level(found, "wandb")[0] == "warning"
    assert level(found, "tensorboard") == ("absent", "pip install 'tensorboard>=2.20,<3'")


def test_a_checkout_and_an_installed_package_say_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What pip writes down of an install is what setup.py read from the same files."""
    from packaging.requirements import Requirement

    here = version_ranges.ranges(ROOT)
    assert {"torch", "mmengine", "transformers"} <= {Requirement(each).name for each in here["runtime"]}
    # As pip writes it: the specifier in another order, and the extra as a marker.
    written = [str(Requirement(each)) for each in here["runtime"]]
    for extra in version_ranges.EXTRAS:
        written += [f'{Requirement(each)}; extra == "{extra}"' for each in here[extra]]
    monkeypatch.setattr(metadata, "requires", lambda name: written if name == "xft-tuner" else None)
    there = version_ranges.ranges(tmp_path)
    assert {name: [Requirement(each) for each in group] for name, group in there.items()} == {
        name: [Requirement(each) for each in group] for name, group in here.items()
    }


def test_a_library_that_kills_its_process_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "breaks_alone.py").write_text(
        "raise ImportError('libGL.so.1: cannot open shared object file')"
    )
    (tmp_path / "kills.py").write_text("print('noise'); import os; os._exit(7)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    tried = libraries.probe(["json", "breaks_alone", "no_such_module", "kills", "json"])
    assert [(each["name"], bool(each["error"])) for each in tried] == [
        ("json", False),
        ("breaks_alone", True),
        ("no_such_module", True),
        ("kills", True),
    ]
    found = list(libraries.judge_imports(tried, []))
    assert level(found, "breaks_alone") == ("broken", libraries.HEADLESS)
    assert level(found, "no_such_module") == ("broken", "pip install no_such_module")
    assert "code 7" in found[-1].text


def test_a_library_that_hangs_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "hangs.py").write_text("import time; time.sleep(60)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    [found] = libraries.judge_imports(libraries.probe(["hangs"], seconds=1.5), [])
    assert (found.name, found.level) == ("hangs", BROKEN)


def test_what_is_missing_is_said_once() -> None:
    known = libraries.judge_versions({"runtime": ["peft>=0.21"]}, lambda name: None)
    tried = [{"name": "peft", "error": "ModuleNotFoundError: No module named 'peft'"}]
    assert list(libraries.judge_imports(tried, known)) == []


@pytest.mark.parametrize(
    ("broken", "code"), [("", 0), ("ImportError: libGL.so.1: cannot open shared object file", 1)]
)
def test_the_exit_code_says_whether_a_run_can_begin(
    broken: str, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def examine() -> list[Finding]:
        return report.examine(lambda modules: [{"name": "cv2", "error": broken}, DEVICES])

    monkeypatch.setattr("xft.doctor.examine", examine)
    assert cli.main(["doctor"]) == code
    captured = capsys.readouterr()
    assert ("ready to train" in captured.out) == (code == 0)
    assert (libraries.HEADLESS in captured.out) == (code == 1)
    assert "\033" not in captured.out
    for part in ("system", "libraries", "optional", "devices", "xft"):
        assert f"\n{part}\n" in f"\n{captured.out}"


def test_a_driver_without_a_torch_for_it_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: "/usr/bin/nvidia-smi")
    assert level(list(system.devices(DEVICES)), "cuda")[0] == "warning"
    gpu = {"name": "GPU", "free": 20e9, "total": 24e9, "capability": "7.5", "bf16": False}
    found = list(system.devices({**DEVICES, "devices": [gpu]}))
    assert [each.name for each in found] == ["cuda:0", "cpu"]
    assert "20.0 GB free of 24.0 GB" in found[0].text
    assert "fp16" in found[0].text


def test_a_cache_that_cannot_be_written_is_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XFT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("os.access", lambda path, mode: False)
    found, mend = level(list(system.folders()), "cache")
    assert found == BROKEN
    assert "XFT_CACHE" in mend


def test_colour_changes_no_word() -> None:
    finding = Finding("libraries", "torch", "broken", "not installed", "pip install torch")
    plain, coloured = "\n".join(shown([finding], False)), "\n".join(shown([finding], True))
    for code in ("\033[0m", "\033[1m", "\033[31m"):
        coloured = coloured.replace(code, "")
    assert plain == coloured
    assert "✗ torch" in plain


def test_memory_is_what_the_system_says() -> None:
    total, free = host.host_memory()
    assert 0 < free <= total <= psutil.virtual_memory().total
    assert host.rss_bytes() == pytest.approx(psutil.Process().memory_info().rss, rel=0.05)
    assert host.peak_rss_bytes() >= host.rss_bytes() * 0.95


def test_the_limit_of_a_container_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "memory.max").write_text("1000000\n")
    (tmp_path / "memory.current").write_text("900000\n")
    (tmp_path / "memory.stat").write_text("anon 500000\ninactive_file 200000\n")
    monkeypatch.setattr(host, "_CGROUP", tmp_path)
    assert host.host_memory() == (1_000_000, 300_000)


def test_a_peak_that_is_forgotten_begins_anew() -> None:
    if not host.reset_peak_rss():
        pytest.skip("this system does not let a process forget its peak of memory")
    block = bytearray(200_000_000)
    block[::4096] = b"x" * len(block[::4096])
    high = host.peak_rss_bytes()
    del block
    assert host.reset_peak_rss()
    assert host.peak_rss_bytes() < high - 100_000_000

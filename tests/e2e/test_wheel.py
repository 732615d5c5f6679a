"""The wheel: it contains what the commands read, and trains on a CSV file from any folder."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("setup.py", "pyproject.toml", "README.md", "LICENSE", "requirements", "xft", "configs", "docs")


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the content of the wheel, built from a copy: a build leaves files in the sources."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(
                ROOT / name, folder / "source" / name, ignore=shutil.ignore_patterns("__pycache__")
            )
        else:
            (folder / "source").mkdir(exist_ok=True)
            shutil.copy(ROOT / name, folder / "source" / name)
    build = ["-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(folder), "./source"]
    subprocess.run([sys.executable, *build], cwd=folder, check=True)
    (wheel,) = folder.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(folder / "site")
    return folder / "site"


def run(package: Path, folder: Path, *commands: list[str]) -> str:
    """Run commands of the package in a folder, in one process, and return what they print."""
    environment = os.environ | {"PYTHONPATH": str(package)}
    program = (
        f"import sys, xft.cli; assert xft.__file__.startswith({str(package)!r}); "
        f"sys.exit(any([xft.cli.main(command) for command in {commands!r}]))"
    )
    process = subprocess.run(
        [sys.executable, "-c", program],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    return process.stdout


def test_configs_and_documentation_are_read_from_the_wheel(package: Path, tmp_path: Path) -> None:
    commands = (
        ["docs", "tips"],
        ["list", "configs"],
        ["copy", "smollm2_lora", "mine.py"],
        ["check", "mine.py"],
    )
    printed = run(package, tmp_path, *commands)
    assert printed.startswith("# Ten tips")
    assert "smollm2_lora" in printed
    assert (tmp_path / "mine.py").is_file()


def test_csv_is_trained_on_without_a_config_file(package: Path, tiny_model: Path, tmp_path: Path) -> None:
    rows = [f"What is {number}?,It is {number}." for number in range(24)]
    (tmp_path / "rows.csv").write_text("\n".join(["question,answer", *rows]) + "\n")
    run(
        package,
        tmp_path,
        [
            *("train", "--model", str(tiny_model), "--data", "rows.csv", "--method", "lora"),
            *("--work-dir", "run", "training.max_steps=2"),
            *("hooks.sample_generation.max_new_tokens=2", "hooks.verify=none"),
        ],
    )
    assert (tmp_path / "run" / "final" / "adapter_model.safetensors").is_file()

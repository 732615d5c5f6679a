"""``python -m xft``: the current folder hides no library."""

import subprocess
import sys
from pathlib import Path

import pytest
from helpers.documented import ROOT

PLANTED = ("argparse", "json", "multiprocessing", "jinja2", "numpy", "torch", "transformers", "kernels")
FORMAT = """
from xft.types import Message

def convert(row):
    return [Message("user", row["a"]), Message("assistant", row["b"], is_target=True)]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a config, and with files that would hide libraries."""
    for name in PLANTED:
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'executed')!r}, 'a').write('{name} ')")
    data = "data = dict(type='instruction', path='rows.jsonl', format='mine.convert')\n"
    (tmp_path / "trusted.py").write_text("model = dict(type='causal_lm', path='owner/name')\n" + data)
    (tmp_path / "rows.jsonl").write_text('{"a": "Hi", "b": "Hello"}\n')
    (tmp_path / "mine.py").write_text(FORMAT)
    return tmp_path


@pytest.mark.parametrize(
    ("program", "arguments", "exit_code"),
    [
        (["-m", "xft"], ["check", "trusted.py"], 0),
        (["-m", "xft"], ["check", "trusted.py", "--safe-config"], 2),
        (["-m", "xft"], ["chat", "."], 4),
        ([str(ROOT / "tools" / "train.py")], ["trusted.py", "--nproc-per-node", "0"], 2),
    ],
)
def test_files_of_the_current_folder_hide_no_library(
    program: list[str], arguments: list[str], exit_code: int, folder: Path
) -> None:
    """A module that a trusted config names is found there, after all others."""
    done = subprocess.run(
        [sys.executable, *program, *arguments],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(folder)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == exit_code, done.stderr
    assert not (folder / "executed").exists(), (folder / "executed").read_text()

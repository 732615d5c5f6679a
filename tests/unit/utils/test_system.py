"""Memory figures against psutil and against hand-made cgroup files."""

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from xft.utils import system as host


def test_memory_figures_match_psutil() -> None:
    total, free = host.host_memory()
    assert 0 < free <= total <= psutil.virtual_memory().total
    assert host.rss_bytes() == pytest.approx(psutil.Process().memory_info().rss, rel=0.05)
    assert host.peak_rss_bytes() >= host.rss_bytes() * 0.95


def test_host_memory_in_a_container_is_its_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "memory.max").write_text("1000000\n")
    (tmp_path / "memory.current").write_text("900000\n")
    (tmp_path / "memory.stat").write_text("anon 500000\ninactive_file 200000\n")
    monkeypatch.setattr(host, "_CGROUP", tmp_path)
    assert host.host_memory() == (1_000_000, 300_000)


# In a process of its own: the allocator of this one may take the block from memory that it kept.
MEASURE_BLOCK = """
from xft.utils import system
before = system.peak_rss_bytes()
block = bytearray(200_000_000)
block[::4096] = b"x" * len(block[::4096])
high = system.peak_rss_bytes()
del block
print(high - before, system.reset_peak_rss(), high - system.peak_rss_bytes())
"""


def test_peak_counts_a_block_until_it_is_reset() -> None:
    result = subprocess.run(
        [sys.executable, "-c", MEASURE_BLOCK], check=True, capture_output=True, text=True
    )
    grown, was_reset, forgotten = result.stdout.split()
    if was_reset == "False":
        pytest.skip("the peak cannot be reset on this system, and begins with that of the parent process")
    assert 180e6 < int(grown) < 220e6
    assert int(forgotten) > 100_000_000


def test_commit_of_a_modified_repository_is_marked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert host.git_commit() is None
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    (tmp_path / "file").write_text("1")
    for words in (["init", "-q"], ["add", "file"], ["commit", "-q", "-m", "Add file"]):
        subprocess.run(["git", *who, *words], check=True)
    commit = host.git_commit()
    assert commit is not None
    assert len(commit) == 40
    (tmp_path / "file").write_text("2")
    assert host.git_commit() == f"{commit}-modified"

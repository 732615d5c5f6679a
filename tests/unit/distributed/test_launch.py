"""How ranks find the first of them."""

from pathlib import Path

import pytest

from xft.distributed.launch import find_first_machine
from xft.errors import ConfigError

SCONTROL = """#!/bin/sh
test "$*" = "show hostnames node[3-4]" || exit 1
echo node3
echo node4
"""


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder of commands, and a launcher's variables, none of them set yet."""
    for name in ("SLURM_NNODES", "SLURM_STEP_NODELIST", "SLURM_JOB_NODELIST", "OMPI_COMM_WORLD_LOCAL_SIZE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    (tmp_path / "scontrol").write_text(SCONTROL)
    (tmp_path / "scontrol").chmod(0o755)
    return tmp_path


@pytest.mark.parametrize("variable", ["SLURM_STEP_NODELIST", "SLURM_JOB_NODELIST"])
def test_slurm_is_asked_for_its_first_machine(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv("SLURM_NNODES", "2")
    monkeypatch.setenv(variable, "node[3-4]")
    assert find_first_machine("slurm") == "node3"


def test_slurm_that_does_not_say_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_NNODES", "2")
    monkeypatch.setenv("SLURM_STEP_NODELIST", "elsewhere")
    with pytest.raises(ConfigError, match=r"hostnames elsewhere` does not say .* set MASTER_ADDR"):
        find_first_machine("slurm")


def test_ranks_of_one_machine_are_here(monkeypatch: pytest.MonkeyPatch, environment: Path) -> None:
    (environment / "scontrol").unlink()
    monkeypatch.setenv("SLURM_NNODES", "1")
    monkeypatch.setenv("OMPI_COMM_WORLD_LOCAL_SIZE", "4")
    assert {find_first_machine(each) for each in ("pytorch", "slurm", "mpi")} == {"127.0.0.1"}


def test_mpi_on_several_machines_must_be_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMPI_COMM_WORLD_LOCAL_SIZE", "2")
    with pytest.raises(ConfigError, match="mpirun -x MASTER_ADDR=MACHINE"):
        find_first_machine("mpi")

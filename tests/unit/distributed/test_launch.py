"""Find the host of rank 0."""

import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from xft.distributed.launch import find_master_addr, read_launcher, spawn_local_ranks, start_process_group
from xft.errors import ConfigError
from xft.utils.command_line import typed_command

SCONTROL = """#!/bin/sh
test "$*" = "show hostnames node[3-4]" || exit 1
echo node3
echo node4
"""


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Put a fake ``scontrol`` on the path, and unset the launchers' variables."""
    for name in ("SLURM_NNODES", "SLURM_STEP_NODELIST", "SLURM_JOB_NODELIST", "OMPI_COMM_WORLD_LOCAL_SIZE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    (tmp_path / "scontrol").write_text(SCONTROL)
    (tmp_path / "scontrol").chmod(0o755)
    return tmp_path


@pytest.mark.parametrize("variable", ["SLURM_STEP_NODELIST", "SLURM_JOB_NODELIST"])
def test_find_master_addr_slurm_returns_first_host(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv("SLURM_NNODES", "2")
    monkeypatch.setenv(variable, "node[3-4]")
    assert find_master_addr("slurm") == "node3"


def test_find_master_addr_slurm_without_host_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_NNODES", "2")
    monkeypatch.setenv("SLURM_STEP_NODELIST", "elsewhere")
    with pytest.raises(ConfigError) as error:
        find_master_addr("slurm")
    assert (error.value.key, error.value.got) == ("--launcher", "elsewhere")


def test_find_master_addr_single_machine_is_localhost(
    monkeypatch: pytest.MonkeyPatch, environment: Path
) -> None:
    (environment / "scontrol").unlink()
    monkeypatch.setenv("SLURM_NNODES", "1")
    monkeypatch.setenv("OMPI_COMM_WORLD_LOCAL_SIZE", "4")
    assert {find_master_addr(launcher) for launcher in ("pytorch", "slurm", "mpi")} == {"127.0.0.1"}


def test_find_master_addr_mpi_on_several_machines_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMPI_COMM_WORLD_LOCAL_SIZE", "2")
    with pytest.raises(ConfigError) as error:
        find_master_addr("mpi")
    assert error.value.key == "--launcher"
    assert "-x MASTER_ADDR=HOST" in str(error.value)


def test_read_launcher_without_its_environment_names_the_missing_variables(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("SLURM_PROCID", raising=False)
    with pytest.raises(ConfigError) as error:
        read_launcher("slurm")
    assert "SLURM_PROCID" in str(error.value)
    assert error.value.got == "slurm"


def test_read_launcher_sets_the_variables_of_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.setenv(name, "0")
    for name, value in (("SLURM_PROCID", "5"), ("SLURM_NTASKS", "8"), ("SLURM_LOCALID", "1")):
        monkeypatch.setenv(name, value)
    assert read_launcher("slurm") == (5, 8)
    assert os.environ["LOCAL_RANK"] == "1"
    assert read_launcher("none") == (0, 1)


@pytest.mark.parametrize("count", [0, -1])
def test_spawn_local_ranks_rejects_less_than_one(count: int) -> None:
    with pytest.raises(ConfigError) as error:
        spawn_local_ranks(count, [])
    assert (error.value.key, error.value.got) == ("--nproc-per-node", count)
    assert error.value.expected.startswith("at least 1")


@pytest.mark.parametrize(("rank", "expected"), [(0, "a free port"), (1, "an address where all ranks meet")])
def test_start_process_group_without_a_connection_names_the_address(
    monkeypatch: pytest.MonkeyPatch, rank: int, expected: str
) -> None:
    """Rank 0 finds its port taken; rank 1 finds nobody who answers."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        port = str(other.getsockname()[1])
        if rank == 0:
            other.listen()
        monkeypatch.setattr(os, "environ", {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port})
        os.environ.update({"RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": "0"})
        with pytest.raises(ConfigError) as error:
            start_process_group("pytorch", timeout_minutes=0.02)
    assert (error.value.got, error.value.expected) == (f"127.0.0.1:{port}", expected)


def test_ranks_know_the_command_that_the_user_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, tuple[str, ...]]] = []

    def launch(config: object, program: str) -> Callable[..., None]:
        def run(*command: str) -> None:
            monkeypatch.setattr(sys, "argv", ["/x/xft/__main__.py", *command[3:]])  # of the rank
            seen.append((typed_command(), command))

        return run

    monkeypatch.setattr("torch.distributed.launcher.api.elastic_launch", launch)
    typed = ["/env/bin/xft", "train", "c.py", "--nproc-per-node", "2"]
    monkeypatch.setattr(sys, "argv", typed)
    assert spawn_local_ranks(2, typed[1:]) == 0
    ((recorded, spawned),) = seen
    assert spawned[-2:] == ("--launcher", "pytorch")
    assert recorded == "xft train c.py --nproc-per-node 2"
    monkeypatch.setattr(sys, "argv", ["/env/bin/xft", "chat", "runs/a"])
    assert typed_command() == "xft chat runs/a"  # a later command of the same process

"""How ranks are started, and how they find each other."""

import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import torch
from torch import distributed

from xft.errors import ConfigError
from xft.utils.system import LAUNCHERS

T = TypeVar("T")
TIMEOUT = 30.0
"""Minutes that a rank waits for the others, where nothing is said."""


def read_launcher(launcher: str) -> tuple[int, int]:
    """Rank and number of ranks, as the launcher's environment says; torch's names for them are set.

    Raises:
        ConfigError: the environment of that launcher is not there.
    """
    if launcher == "none":
        return 0, 1
    names, start = LAUNCHERS[launcher]
    missing = [each for each in names if each not in os.environ]
    if missing:
        raise ConfigError(
            f"--launcher {launcher}: the environment has no {', '.join(missing)}; start with `{start} ...`"
        )
    for ours, theirs in zip(("RANK", "WORLD_SIZE", "LOCAL_RANK"), names, strict=True):
        os.environ[ours] = os.environ[theirs]
    return int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])


def start_process_group(launcher: str, timeout_minutes: float = TIMEOUT) -> None:
    """Join the other ranks, if that is not done yet: with NCCL where there are GPUs, else with gloo.

    Without a launcher, this process is the only rank.

    Raises:
        ConfigError: the environment of the launcher is not there, or does not say where the first rank is.
    """
    if distributed.is_initialized():
        return
    if launcher == "none":
        os.environ |= {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port())}
    read_launcher(launcher)
    if "MASTER_ADDR" not in os.environ:
        os.environ["MASTER_ADDR"] = find_first_machine(launcher)
    # Two jobs on one machine must not meet.
    os.environ.setdefault("MASTER_PORT", str(20_000 + int(os.environ.get("SLURM_JOB_ID", "9500")) % 20_000))
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    backend = "nccl" if torch.cuda.is_available() else "gloo"
    distributed.init_process_group(backend, timeout=timedelta(minutes=timeout_minutes))


def find_first_machine(launcher: str) -> str:
    """The machine of the first rank, as the launcher's environment says.

    Raises:
        ConfigError: it does not say it.
    """
    here = "127.0.0.1"
    if launcher == "mpi" and os.environ.get("OMPI_COMM_WORLD_LOCAL_SIZE") != os.environ["WORLD_SIZE"]:
        raise ConfigError(
            "--launcher mpi: the ranks are on several machines, and MPI does not say which has the first; hand it to "
            "all of them with `mpirun -x MASTER_ADDR=MACHINE ...`"
        )
    if launcher != "slurm" or os.environ.get("SLURM_NNODES") == "1":
        return here
    nodes = os.environ.get("SLURM_STEP_NODELIST", os.environ.get("SLURM_JOB_NODELIST", ""))
    try:
        # The list is in SLURM's own short form, such as node[1-3,7].
        said = subprocess.run(
            ["scontrol", "show", "hostnames", nodes], capture_output=True, text=True, check=True
        ).stdout.split()
        return said[0]
    except (OSError, subprocess.CalledProcessError, IndexError) as error:
        raise ConfigError(
            f"--launcher slurm: `scontrol show hostnames {nodes}` does not say which machine has the first rank; set "
            "MASTER_ADDR to it"
        ) from error


def agree_on(value: T) -> T:
    """Take the first rank's value. All ranks must call it."""
    shared = [value]
    distributed.broadcast_object_list(shared, src=0)
    return shared[0]


def run_on_devices(count: int, arguments: Sequence[str]) -> int:
    """Start ``xft`` anew on each device of this machine with torchrun, and wait for the end.

    Args:
        count: of devices, each with a process of its own.
        arguments: of the command line.

    Returns:
        The exit code of the rank that failed first; 0 where none did.

    Raises:
        ConfigError: there are fewer devices.
        KeyboardInterrupt: a signal has ended the run.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    have = torch.cuda.device_count() if torch.cuda.is_available() else count
    if not 1 <= count <= have:
        raise ConfigError(f"--num-devices: got {count}, expected 1 to {have}, the devices of this machine")
    root = str(Path(__file__).resolve().parents[3])
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
    # Otherwise each process would take every core for itself.
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // count)))
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=count,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        run_id="xft",
        max_restarts=0,
    )
    command = ["-m", "xft.cli", *arguments, "--num-devices", "1", "--launcher", "pytorch"]
    try:
        elastic_launch(config, sys.executable)(*command)
    except ChildFailedError as error:
        code = error.get_first_failure()[1].exitcode
        # A process that a signal ended has the signal's number, negative; a shell says it so.
        return code if code >= 0 else 128 - code
    except SignalException as error:
        stop = KeyboardInterrupt(f"ended by {error.sigval.name}")
        stop.exit_code = 128 + error.sigval.value  # type: ignore[attr-defined]
        raise stop from error
    return 0


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port

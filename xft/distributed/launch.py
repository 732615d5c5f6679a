"""Start ranks and join them in a process group."""

import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import torch
from torch import distributed

from xft.errors import ConfigError, RunInterrupted
from xft.utils.command_line import TYPED_COMMAND, typed_command
from xft.utils.console import echo
from xft.utils.system import LAUNCHERS

T = TypeVar("T")
DEFAULT_TIMEOUT_MINUTES = 30.0
"""Minutes that a collective waits for the other ranks."""


def read_launcher(launcher: str) -> tuple[int, int]:
    """Return rank and world size from the launcher's environment, and set torch's variables for them.

    Raises:
        ConfigError: a variable of that launcher is not set.
    """
    if launcher == "none":
        return 0, 1
    names, command = LAUNCHERS[launcher]
    missing = [name for name in names if name not in os.environ]
    if missing:
        raise ConfigError(
            f"--launcher {launcher}: the environment has no {', '.join(missing)}; start with `{command} ...`",
            key="--launcher",
            got=launcher,
        )
    for torch_name, launcher_name in zip(("RANK", "WORLD_SIZE", "LOCAL_RANK"), names, strict=True):
        os.environ[torch_name] = os.environ[launcher_name]
    return int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])


def start_process_group(launcher: str, timeout_minutes: float = DEFAULT_TIMEOUT_MINUTES) -> None:
    """Join the process group unless this process has already joined it: NCCL with GPUs, gloo without.

    Without a launcher, the group has this process alone.

    Raises:
        ConfigError: the launcher's environment is incomplete, or the address of rank 0 cannot be found.
    """
    if distributed.is_initialized():
        return
    if launcher == "none":
        os.environ |= {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port())}
    read_launcher(launcher)
    if "MASTER_ADDR" not in os.environ:
        os.environ["MASTER_ADDR"] = find_master_addr(launcher)
    # Derived from the job, because two jobs on one machine need different ports.
    os.environ.setdefault("MASTER_PORT", str(20_000 + int(os.environ.get("SLURM_JOB_ID", "9500")) % 20_000))
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    backend = "nccl" if torch.cuda.is_available() else "gloo"
    try:
        distributed.init_process_group(backend, timeout=timedelta(minutes=timeout_minutes))
    except (distributed.DistNetworkError, distributed.DistStoreError) as error:
        raise _no_group(error) from error


def _no_group(error: RuntimeError) -> ConfigError:
    """Return the error of a process group that cannot be started."""
    address = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
    if "EADDRINUSE" in str(error) or "already in use" in str(error):
        expected, fix = "a free port", "another program listens there; set MASTER_PORT to another port"
    else:
        expected = "an address where all ranks meet"
        fix = "check that every rank has started (its log has the reason otherwise), and that rank 0 can be reached"
    return ConfigError(key="MASTER_ADDR:MASTER_PORT", got=address, expected=expected, fix=fix)


def find_master_addr(launcher: str) -> str:
    """Return the host of rank 0 from the launcher's environment.

    Raises:
        ConfigError: the environment does not contain it.
    """
    if launcher == "mpi" and os.environ.get("OMPI_COMM_WORLD_LOCAL_SIZE") != os.environ["WORLD_SIZE"]:
        raise ConfigError(
            "--launcher mpi: MPI does not tell several machines the address of rank 0; pass it to all of them "
            "with `mpirun -x MASTER_ADDR=HOST ...`",
            key="--launcher",
            got=launcher,
        )
    if launcher != "slurm" or os.environ.get("SLURM_NNODES") == "1":
        return "127.0.0.1"
    nodes = os.environ.get("SLURM_STEP_NODELIST", os.environ.get("SLURM_JOB_NODELIST", ""))
    try:
        # scontrol expands SLURM's short form, such as node[1-3,7].
        hosts = subprocess.run(
            ["scontrol", "show", "hostnames", nodes], capture_output=True, text=True, check=True
        ).stdout.split()
        return hosts[0]
    except (OSError, subprocess.CalledProcessError, IndexError) as error:
        raise ConfigError(
            f"--launcher slurm: `scontrol show hostnames {nodes}` returns no host; set MASTER_ADDR to the host of "
            "rank 0",
            key="--launcher",
            got=nodes,
        ) from error


def broadcast_object(value: T) -> T:
    """Return rank 0's value on every rank. Collective."""
    shared = [value]
    distributed.broadcast_object_list(shared, src=0)
    return shared[0]


def spawn_local_ranks(count: int, arguments: Sequence[str]) -> int:
    """Run the command line on ``count`` ranks of this machine with torchrun's API, and wait for them.

    Args:
        count: number of ranks, one for each device.
        arguments: command line without the program name.

    Returns:
        The exit code of the rank that failed first, or 0.

    Raises:
        ConfigError: the machine has fewer devices.
        KeyboardInterrupt: a signal ended the run.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    devices = torch.cuda.device_count() if torch.cuda.is_available() else max(count, 1)
    if not 1 <= count <= devices:
        limit = f", {devices} on this machine" if torch.cuda.is_available() else ""
        raise ConfigError(
            key="--nproc-per-node", got=count, expected=f"at least 1, at most the devices{limit}"
        )
    root = str(Path(__file__).resolve().parents[2])
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
    # By default, each process would start a thread for every core.
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
    command = ["-P", "-m", "xft", *arguments, "--nproc-per-node", "1", "--launcher", "pytorch"]
    for name in ("multiprocessing.api", "agent.server.api"):
        # Why: each rank prints its error itself.
        logging.getLogger(f"torch.distributed.elastic.{name}").setLevel(logging.CRITICAL)
    os.environ[TYPED_COMMAND] = typed_command()
    try:
        elastic_launch(config, sys.executable)(*command)
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        code = failure.exitcode
        if code >= 0:
            return code
        # A rank that a signal has ended prints nothing itself. Shells report 128 + signal.
        echo(f"error: rank {rank} was ended by {signal.Signals(-code).name}", error=True)
        return 128 - code
    except SignalException as error:
        raise RunInterrupted(error.sigval.value, f"ended by {error.sigval.name}") from error
    finally:
        del os.environ[TYPED_COMMAND]
    return 0


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port

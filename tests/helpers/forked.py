"""Run a script on several ranks of this machine, as torchrun does, but import the libraries once: ranks are forks.

``python tests/helpers/forked.py RANKS SCRIPT [ARGUMENT ...]``. To import torch, transformers and DeepSpeed takes seconds of a
core for each rank and for torchrun too, and tiny runs take less.
"""

import gc
import os
import runpy
import signal
import socket
import subprocess
import sys
import traceback
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def torchrun(ranks: int) -> list[str]:
    """The launcher itself, for tests of what it does."""
    return [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={ranks}"]


def run_on_ranks(
    ranks: int, script: Path, *arguments: str, paths: tuple[Path, ...] = (), timeout: int = 300
) -> subprocess.CompletedProcess[str]:
    """Run a script on several ranks, with one thread each. ``paths`` are searched for modules too."""
    import torch

    command = [sys.executable, __file__, str(ranks)]
    if torch.cuda.device_count():  # a fork of a process that has looked for a GPU cannot use it
        command = torchrun(ranks)
    searched = ":".join(str(each) for each in (ROOT, ROOT / "tests", *paths))
    return subprocess.run(
        [*command, str(script), *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": searched},
        timeout=timeout,
        check=False,
    )


def main(ranks: int, script: str, *arguments: str) -> int:
    """Fork the ranks and wait for them. The first that fails ends the others, and gives the exit code."""
    import torch

    # A pool of threads does not live on in a fork.
    torch.set_num_threads(1)
    if find_spec("deepspeed") is not None:
        import deepspeed  # noqa: F401
    import xft.export
    import xft.training.train  # noqa: F401

    gc.collect()
    gc.freeze()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    world = {
        "WORLD_SIZE": ranks,
        "LOCAL_WORLD_SIZE": ranks,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
    }
    children = []
    for rank in range(ranks):
        if (child := os.fork()) == 0:
            os.environ |= {
                name: str(each) for name, each in (world | {"RANK": rank, "LOCAL_RANK": rank}).items()
            }
            sys.argv = [script, *arguments]
            _run(script)
        children.append(child)
    code = 0
    for _ in range(ranks):
        ended, status = os.wait()
        children.remove(ended)
        if status and not code:
            code = abs(os.waitstatus_to_exitcode(status))
            for each in children:
                os.kill(each, signal.SIGKILL)
    return code


def _run(script: str) -> None:
    code = 1
    try:
        runpy.run_path(script, run_name="__main__")
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    finally:
        if isinstance(sys.exc_info()[1], Exception):
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), *sys.argv[2:]))

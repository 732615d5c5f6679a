"""Process that has imported everything and forks for each request; see :mod:`helpers.forked`."""

import gc
import json
import os
import runpy
import signal
import socket
import sys
import traceback
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

FOLDER = "XFT_FORK_SERVER"
"""Environment variable with the folder of the server's socket, log and lock."""
SESSION = "XFT_TEST_SESSION"
"""Environment variable with the process id of the test session."""
MAX_REQUEST = 1 << 20
"""Bytes of a request."""


def serve(folder: Path, session: int) -> None:
    """Import everything, then fork for each connection until the test session has ended."""
    import torch

    # A pool of threads does not live on in a fork.
    torch.set_num_threads(1)
    if find_spec("deepspeed") is not None:
        import deepspeed  # noqa: F401
    # What each run imports when it comes to it.
    import matplotlib.pyplot  # noqa: F401
    import transformers.models.llama.modeling_llama  # noqa: F401

    import xft.export
    import xft.training.train  # noqa: F401

    gc.collect()
    gc.freeze()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(folder / "starting"))
    listener.listen(16)
    (folder / "starting").rename(folder / "socket")
    listener.settimeout(1)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the forks
    while _is_alive(session):
        try:
            connection, _ = listener.accept()
        except TimeoutError:
            continue
        if os.fork() == 0:
            listener.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            _supervise(connection)
        connection.close()


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _supervise(connection: socket.socket) -> None:
    """Fork the ranks of a request, and send their process ids and the exit code."""
    try:
        connection.settimeout(None)
        replies = connection.makefile("rw")
        request = json.loads(replies.readline(MAX_REQUEST))
        children = _fork_ranks(request, connection)
        replies.write(json.dumps(children) + "\n")
        replies.flush()
        code = _wait(children)
        replies.write(f"{code}\n")
        replies.flush()
    except BrokenPipeError:  # the test has ended before its process
        pass
    finally:
        os._exit(0)


def _fork_ranks(request: Mapping[str, Any], connection: socket.socket) -> list[int]:
    world = {}
    if request["ranks"]:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        size = request["ranks"]
        world = {
            "WORLD_SIZE": size,
            "LOCAL_WORLD_SIZE": size,
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": port,
        }
    children = []
    for rank in range(max(request["ranks"], 1)):
        if (child := os.fork()) == 0:
            connection.close()
            ranks = {"RANK": rank, "LOCAL_RANK": rank} if world else {}
            _run(request, {name: str(value) for name, value in (world | ranks).items()})
        children.append(child)
    return children


def _wait(pids: list[int]) -> int:
    """Wait for all ranks. The first that fails ends the others, and gives the exit code."""
    running, code = set(pids), 0
    while running:
        ended, status = os.wait()
        running.discard(ended)
        if status and not code:
            code = os.waitstatus_to_exitcode(status)
            for pid in running:
                os.kill(pid, signal.SIGKILL)
    return abs(code) if len(pids) > 1 else code


def _run(request: Mapping[str, Any], world: Mapping[str, str]) -> None:
    code = 1
    try:
        for number, name in ((0, os.devnull), (1, "stdout"), (2, "stderr")):
            flags = os.O_RDWR | os.O_APPEND | (os.O_CREAT if number else 0)
            os.dup2(os.open(Path(request["output"]) / name, flags), number)
        os.chdir(request["cwd"])
        os.environ.clear()
        os.environ |= {**request["environment"], **world}
        sys.path[:0] = [path for path in request["paths"] if path not in sys.path]
        sys.argv = [request["script"], *request["arguments"]]
        runpy.run_path(request["script"], run_name="__main__")
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # noqa: BLE001 - as the interpreter does at its end
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    serve(Path(os.environ[FOLDER]), int(os.environ[SESSION]))

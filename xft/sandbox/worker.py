"""Worker process of :mod:`xft.sandbox.isolation`: render templates under operating-system limits."""

import json
import pickle
import resource
import struct
import sys
import time
from functools import lru_cache
from typing import BinaryIO

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment

from xft.sandbox.environment import environment
from xft.sandbox.isolation import MAX_SECONDS, RenderError

MAX_BYTES = 2 << 30
"""Maximum size of the address space, which also limits the length of the rendered text."""
MAX_TEXT = 1 << 27
"""Maximum length of the rendered text in characters."""


@lru_cache(maxsize=64)
def _compile(source: str) -> jinja2.Template:
    return environment(ImmutableSandboxedEnvironment).from_string(source)


def main(stdin: BinaryIO, stdout: BinaryIO) -> None:
    """Answer requests until end of file on ``stdin``."""
    stdout.write(b"ready\n")
    stdout.flush()
    while header := stdin.read(8):
        request = stdin.read(struct.unpack("!Q", header)[0])
        # Stop a worker whose parent was killed.
        limit(resource.RLIMIT_CPU, int(time.process_time() + 2 * MAX_SECONDS))
        stdout.write(render(request) + b"\n")
        stdout.flush()


def limit(kind: int, value: int) -> None:
    """Set the soft limit of a resource, within the hard limit: an administrator's cannot be raised."""
    _, hard = resource.getrlimit(kind)
    resource.setrlimit(kind, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))


def render(request: bytes) -> bytes:
    """Render a pickled template with its variables; return JSON with the text or the error."""
    source, variables = pickle.loads(request)
    try:
        text = _compile(source).render(variables)
        if len(text) > MAX_TEXT:
            raise RenderError(f"rendering gives more than {MAX_TEXT:,} characters")
        return json.dumps({"text": text}).encode()
    except MemoryError:
        return json.dumps({"error": f"rendering needs more than {MAX_BYTES >> 30} GiB of memory"}).encode()
    except Exception as error:  # noqa: BLE001 - reported to the parent process
        return json.dumps({"error": str(error)[:10_000]}).encode()


if __name__ == "__main__":
    limit(resource.RLIMIT_AS, MAX_BYTES)
    limit(resource.RLIMIT_CORE, 0)
    main(sys.stdin.buffer, sys.stdout.buffer)

"""Tries libraries, and prints what became of it as a JSON object a line.

It runs in a process of its own, as a text given to the interpreter: what it tries may end that
process. Before each library it says which one comes, so that one that kills it is known.
"""

import importlib
import json
import sys
from typing import Any


def say(**values: object) -> None:
    """Print a line at once."""
    sys.__stdout__.write(json.dumps(values) + "\n")  # type: ignore[union-attr]
    sys.__stdout__.flush()  # type: ignore[union-attr]


def try_imports(modules: list[str]) -> None:
    """Import each, and say how it went."""
    for name in modules:
        say(begin=name)
        try:
            importlib.import_module(name)
        except Exception as error:  # noqa: BLE001 - whatever it is, the doctor says it
            text = str(error).strip() or "no message"
            say(name=name, error=f"{type(error).__name__}: {text.splitlines()[0]}")
        else:
            say(name=name, error="")


def devices() -> None:
    """Say what torch can compute on, and whether in bf16."""
    say(begin="the devices")
    import torch

    say(
        cuda=torch.version.cuda,
        hip=torch.version.hip,
        mps=torch.backends.mps.is_available(),
        cpu_bf16=bool(torch.ops.mkldnn._is_mkldnn_bf16_supported()),
        devices=[_device(torch, each) for each in range(torch.cuda.device_count())],
    )


def _device(torch: Any, number: int) -> dict[str, Any]:
    free, total = torch.cuda.mem_get_info(number)
    major, minor = torch.cuda.get_device_capability(number)
    return {
        "name": torch.cuda.get_device_name(number),
        "free": free,
        "total": total,
        "capability": f"{major}.{minor}",
        "bf16": major >= 8 or torch.version.hip is not None,
    }


if __name__ == "__main__":
    sys.stdout = sys.stderr  # what libraries print when they are imported is none of ours
    wanted = sys.argv[1:]
    try_imports(wanted)
    if "torch" in sys.modules:
        devices()

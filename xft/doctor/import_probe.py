"""Import libraries and print the result of each as one JSON object per line.

This source text is run by a new interpreter, since an import may end the process. The name of each library
is printed before its import, which identifies one that crashes.
"""

import importlib
import json
import sys
from typing import Any


def emit(**values: object) -> None:
    """Print a line and flush it."""
    sys.__stdout__.write(json.dumps(values) + "\n")  # type: ignore[union-attr]
    sys.__stdout__.flush()  # type: ignore[union-attr]


def try_imports(modules: list[str]) -> None:
    """Import each module and print its error, if any."""
    for name in modules:
        emit(begin=name)
        try:
            importlib.import_module(name)
        except Exception as error:  # noqa: BLE001 - any error of a library is a result
            text = str(error).strip() or "no message"
            emit(name=name, error=f"{type(error).__name__}: {text.splitlines()[0]}")
        else:
            emit(name=name, error="")


def report_devices() -> None:
    """Print the GPUs that torch can use, and the platform it was built for."""
    emit(begin="devices")
    import torch

    emit(
        backend=torch.version.cuda or torch.version.hip,
        devices=[_device(torch, index) for index in range(torch.cuda.device_count())],
    )


def _device(torch: Any, index: int) -> dict[str, Any]:
    free, total = torch.cuda.mem_get_info(index)
    major, _ = torch.cuda.get_device_capability(index)
    bf16 = major >= 8 or torch.version.hip is not None
    return {"name": torch.cuda.get_device_name(index), "free": free, "total": total, "bf16": bf16}


if __name__ == "__main__":
    sys.stdout = sys.stderr  # keep output of imported libraries out of the JSON lines
    try_imports(sys.argv[1:])
    if "torch" in sys.modules:
        report_devices()

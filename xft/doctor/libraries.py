"""The libraries: which are there, whether they are those that were tested, and whether they load."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from xft.doctor.checks import Finding, Level
from xft.doctor.version_ranges import RUNTIME
from xft.utils.system import version_of

MODULES = {"protobuf": "google.protobuf", "mmengine": "mmengine.runner"}
"""What a distribution is imported as, where that is not its name."""
USES = {
    "tensorboard": "loggers.tensorboard",
    "wandb": "loggers.wandb",
    "mlflow-skinny": "loggers.mlflow",
    "sqlalchemy": "loggers.mlflow without a server",
    "alembic": "loggers.mlflow without a server",
    "swanlab": "loggers.swanlab",
    "deepspeed": "sharded training",
    "fastapi": "xft serve",
    "uvicorn": "xft serve",
    "gguf": "xft convert --gguf",
    "sacrebleu": "xft eval --data",
    "rouge-score": "xft eval --data",
}
"""What an optional distribution is for."""
HEADLESS = "pip install --force-reinstall --no-deps opencv-python-headless"
PROBE_SECONDS = 300


def judge_versions(
    groups: dict[str, list[str]], version: Callable[[str], str | None] = version_of
) -> list[Finding]:
    """Compare what is installed with what was tested.

    Args:
        groups: requirements by group (see ``ranges``).
        version: the version of a distribution; ``None`` where it is not installed.
    """
    return [
        _judge(text, "libraries" if group == RUNTIME else "optional", version)
        for group, texts in groups.items()
        for text in texts
    ]


def _judge(text: str, part: str, version: Callable[[str], str | None]) -> Finding:
    from packaging.requirements import Requirement

    wanted = Requirement(text)
    found = version(wanted.name)
    install = f"pip install '{text}'"
    if found is None:
        if part == "optional":
            use = USES.get(wanted.name, "")
            return Finding(
                part, wanted.name, "absent", f"not installed{use and f'; {use} wants it'}", install
            )
        return Finding(part, wanted.name, "broken", "not installed", install)
    said = f"{found} (tested: {text.removeprefix(wanted.name)})" if wanted.specifier else found
    if wanted.specifier.contains(found, prereleases=True):
        return Finding(part, wanted.name, "ok", said)
    level: Level = "warning" if part == "optional" or _is_newer(found, wanted) else "broken"
    return Finding(part, wanted.name, level, said, install)


def _is_newer(found: str, wanted: Any) -> bool:
    """Whether a version lies above the range: it may go well, and nobody has tried."""
    from packaging.version import Version

    lower = [each.version for each in wanted.specifier if each.operator in (">=", "==", "~=", ">")]
    return all(Version(found) >= Version(each) for each in lower)


def modules_of(groups: dict[str, list[str]]) -> list[str]:
    """What the runtime's distributions are imported as: torch first, and OpenCV, which mmengine wants."""
    from packaging.requirements import Requirement

    names = [Requirement(text).name for text in groups[RUNTIME]]
    return [
        "torch",
        "cv2",
        *(MODULES.get(each, each.replace("-", "_")) for each in names if each != "torch"),
    ]


def probe(modules: Sequence[str], seconds: float = PROBE_SECONDS) -> list[dict[str, Any]]:
    """Import modules in a process of its own.

    Returns:
        A dict for each that was tried, ``name`` and ``error`` (empty where it went well), and one with
        ``devices``, where torch could be imported.
    """
    source = Path(__file__).with_name("import_probe.py").read_text(encoding="utf-8")
    try:
        done = subprocess.run(
            [sys.executable, "-c", source, *modules],
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        written, end = done.stdout, f"the process that imports it ended with code {done.returncode}"
        failed = done.returncode != 0
    except subprocess.TimeoutExpired as error:
        kept = error.stdout or b""
        written = kept.decode() if isinstance(kept, bytes) else kept
        end, failed = f"it was not imported within {seconds:.0f} s", True
    lines = [json.loads(line) for line in written.splitlines()]
    if failed and lines and "begin" in lines[-1]:
        lines.append({"name": lines[-1]["begin"], "error": end})
    return [each for each in lines if "begin" not in each]


def judge_imports(tried: Sequence[dict[str, Any]], known: Sequence[Finding]) -> Iterator[Finding]:
    """What failed to be imported although it is installed.

    Args:
        tried: what ``probe`` gave.
        known: what was said of the versions; what is missing is said there.
    """
    missing = {each.name for each in known if each.text == "not installed"}
    distributions = {module: name for name, module in MODULES.items()}
    for each in tried:
        if not each.get("error"):
            continue
        module = each["name"]
        name = distributions.get(module, module)
        if name in missing or name.replace("_", "-") in missing:
            continue
        yield Finding(
            "libraries",
            module,
            "broken",
            f"cannot be imported: {each['error']}",
            _cure(module, each["error"]),
        )


def _cure(module: str, error: str) -> str:
    if "libGL" in error or "cv2" in error or module == "cv2":
        return HEADLESS
    if "No module named" in error:
        return f"pip install {error.rpartition('named ')[2].strip(chr(39)).partition('.')[0]}"
    return f"pip install --force-reinstall {module.partition('.')[0]}"

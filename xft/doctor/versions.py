"""Compare installed versions with the tested ranges.

The ranges are in ``requirements/*.txt`` of a checkout, and in the package metadata of an install.
"""

from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path

from xft.doctor.checks import Finding, Level
from xft.utils import paths
from xft.utils.system import version_of

DISTRIBUTION = "xft-tuner"
RUNTIME = "runtime"
EXTRAS = ("logging", "swanlab", "deepspeed", "serve", "gguf", "eval")


def read_ranges(root: Path = paths.PACKAGE.parent) -> dict[str, list[str]]:
    """Return requirements such as ``torch>=2.6,<2.14`` by group: ``runtime`` and each extra.

    Args:
        root: folder that contains ``requirements/`` in a checkout.

    Raises:
        LookupError: xft is neither a checkout nor an installed package.
    """
    folder = root / "requirements"
    if (folder / f"{RUNTIME}.txt").is_file():
        return {name: list(_read_requirements(folder / f"{name}.txt")) for name in (RUNTIME, *EXTRAS)}
    try:
        requirements = metadata.requires(DISTRIBUTION) or []
    except metadata.PackageNotFoundError as error:
        raise LookupError(f"{DISTRIBUTION} is not installed, and {folder} does not exist") from error
    return {name: list(_of_group(requirements, name)) for name in (RUNTIME, *EXTRAS)}


def _read_requirements(path: Path) -> Iterator[str]:
    for line in path.read_text(encoding="utf-8").splitlines():
        text = line.partition("#")[0].strip()
        if text and not text.startswith("-"):
            yield text


def _of_group(requirements: list[str], group: str) -> Iterator[str]:
    for line in requirements:
        text, _, marker = line.partition(";")
        extra = f'extra == "{group}"' in marker.replace("'", '"')
        if extra if group != RUNTIME else not marker.strip():
            yield text.strip()


def check_versions(
    groups: dict[str, list[str]], version: Callable[[str], str | None] = version_of
) -> list[Finding]:
    """Compare installed versions with the tested ranges.

    Packages within their range are counted in one finding. Packages of an extra may be missing.

    Args:
        groups: requirements by group, from ``read_ranges``.
        version: returns the version of a distribution; ``None`` if it is not installed.
    """
    from packaging.requirements import Requirement

    findings: list[Finding] = []
    num_ok = 0
    for group, texts in groups.items():
        for text in texts:
            requirement, optional = Requirement(text), group != RUNTIME
            installed = version(requirement.name)
            fix = f"pip install '{text}'"
            if installed is None:
                if not optional:
                    findings.append(Finding(requirement.name, "broken", "not installed", fix))
            elif requirement.specifier.contains(installed, prereleases=True):
                num_ok += 1
            else:
                lower = (spec for spec in requirement.specifier if spec.operator in (">=", "==", "~=", ">"))
                level: Level = (
                    "warning" if optional or _reaches(installed, [s.version for s in lower]) else "broken"
                )
                state = f"{installed} (tested: {text.removeprefix(requirement.name)})"
                findings.append(Finding(requirement.name, level, state, fix))
    return [Finding("packages", "ok", f"{num_ok} within the tested versions"), *findings]


def _reaches(installed: str, lower_bounds: list[str]) -> bool:
    """Whether a version is above all lower bounds: newer than tested, so it may work."""
    from packaging.version import Version

    return all(Version(installed) >= Version(bound) for bound in lower_bounds)

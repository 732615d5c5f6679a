"""The whole examination, and how it is printed."""

from collections.abc import Callable, Sequence
from typing import Any

from xft.doctor import libraries, system
from xft.doctor.checks import Finding
from xft.doctor.version_ranges import ranges
from xft.utils.console import BOLD, GRAY, GREEN, RED, YELLOW, colorize

_SIGNS = {"ok": "✓", "absent": "–", "warning": "!", "broken": "✗"}
_COLOURS = {"ok": GREEN, "absent": GRAY, "warning": YELLOW, "broken": RED}


def examine(probe: Callable[[Sequence[str]], list[dict[str, Any]]] = libraries.probe) -> list[Finding]:
    """Look at everything.

    Args:
        probe: tries to import modules, in another process.
    """
    return [*system.system(), *_libraries(probe), *system.folders()]


def _libraries(probe: Callable[[Sequence[str]], list[dict[str, Any]]]) -> list[Finding]:
    try:
        groups = ranges()
        found = libraries.judge_versions(groups)
        modules = libraries.modules_of(groups)
    except LookupError as error:
        return [Finding("libraries", "xft", "broken", str(error), "pip install -e . in the checkout")]
    except ImportError:
        return [
            Finding(
                "libraries",
                "packaging",
                "broken",
                "not installed: versions cannot be judged",
                "pip install packaging",
            )
        ]
    tried = probe(modules)
    found += libraries.judge_imports(tried, found)
    for each in tried:
        if "devices" in each:
            found += system.devices(each)
    # What is imported comes after what is optional, and stands with the other libraries.
    return sorted(found, key=lambda each: ("libraries", "optional", "devices").index(each.part))


def shown(findings: Sequence[Finding], colour: bool) -> list[str]:
    """Lines for the terminal: a heading for each part, what was found, and below it what mends it."""
    width = max(len(each.name) for each in findings)
    lines: list[str] = []
    part = ""
    for each in findings:
        if each.part != part:
            part = each.part
            lines += [*([""] if lines else []), colorize(part, BOLD, colour)]
        sign = colorize(_SIGNS[each.level], _COLOURS[each.level], colour)
        lines.append(f"  {sign} {each.name:<{width}}  {each.text}")
        if each.mend:
            lines.append(f"    {'':<{width}}  → {colorize(each.mend, BOLD, colour)}")
    return lines

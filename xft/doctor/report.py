"""Run all checks and format their findings."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from xft.doctor import imports, system, versions
from xft.doctor.checks import Finding
from xft.utils.console import BOLD, GREEN, RED, YELLOW, colorize, escape_control_chars

_SIGNS = {"ok": "✓", "warning": "!", "broken": "✗"}
_COLORS = {"ok": GREEN, "warning": YELLOW, "broken": RED}
Probe = Callable[[Sequence[str]], list[dict[str, Any]]]


def run_checks(probe: Probe = imports.probe_imports) -> list[Finding]:
    """Run all checks.

    Args:
        probe: imports modules in a subprocess.
    """
    return [*system.check_host(), *_check_libraries(probe), system.check_bundled_model()]


def _check_libraries(probe: Probe) -> Iterator[Finding]:
    try:
        groups = versions.read_ranges()
        findings = versions.check_versions(groups)
        modules = imports.runtime_modules(groups)
    except LookupError as error:
        yield Finding("xft", "broken", str(error), "pip install -e . in the checkout")
        return
    except ImportError:
        text = "not installed: versions cannot be compared"
        yield Finding("packaging", "broken", text, "pip install packaging")
        return
    records = probe(modules)
    yield from findings
    yield from imports.check_imports(records, findings)
    for record in records:
        if "devices" in record:
            yield from system.check_devices(record)


def format_findings(findings: Sequence[Finding], color: bool) -> list[str]:
    """Format one line per finding, and a line below with its fix, if any."""
    width = max(len(finding.name) for finding in findings)
    lines: list[str] = []
    for finding in findings:
        sign = colorize(_SIGNS[finding.level], _COLORS[finding.level], color)
        lines.append(f"{sign} " + escape_control_chars(f"{finding.name:<{width}}  {finding.text}"))
        if finding.fix:
            lines.append(f"  {'':<{width}}  → {colorize(finding.fix, BOLD, color)}")
    return lines

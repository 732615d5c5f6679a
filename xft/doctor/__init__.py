"""``xft doctor``: check the installation, and print the command that fixes each problem.

Heavy libraries are never imported here: versions are read from package metadata, and imports are tried in
a subprocess. ``python -m torch.utils.collect_env`` lists the full environment.
"""

from xft.doctor.checks import Finding, Level
from xft.doctor.report import format_findings, run_checks

__all__ = ["Finding", "Level", "format_findings", "run_checks"]

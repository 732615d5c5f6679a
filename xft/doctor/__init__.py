"""``xft doctor``: what is there, what is missing, and the command that mends it.

Nothing heavy is imported into this process: versions are read from what pip wrote down, and libraries
are tried in a process of their own, which may fail in any way.
"""

from xft.doctor.checks import BROKEN, Finding, Level
from xft.doctor.report import examine, shown

__all__ = ["BROKEN", "Finding", "Level", "examine", "shown"]

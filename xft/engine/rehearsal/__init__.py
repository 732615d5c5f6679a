"""A rehearsal of a run (``xft train --dry-run``): will it fit, and what will it take?"""

from xft.engine.rehearsal.meter import Meter
from xft.engine.rehearsal.run import Rehearsal, scratch

__all__ = ["Meter", "Rehearsal", "scratch"]

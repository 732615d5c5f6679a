"""A rehearsal of a run (``xft train --dry-run``): will it fit, and what will it take?"""

from xft.training.dry_run.profile import Meter
from xft.training.dry_run.run import Rehearsal, scratch

__all__ = ["Meter", "Rehearsal", "scratch"]

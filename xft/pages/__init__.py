"""Pages: what a run was and became, as files that open from the disk, without a network or a script.

They are written from the files of a run folder alone, so that any folder can be shown, on any machine.
"""

from xft.pages.compare import write_comparison
from xft.pages.records import RunFolder, read_run
from xft.pages.report import REPORT, write_report

__all__ = ["REPORT", "RunFolder", "read_run", "write_comparison", "write_report"]

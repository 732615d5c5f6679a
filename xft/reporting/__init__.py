"""Pages: what a run was and became, as files that open from the disk, without a network or a script.

They are written from the files of a run folder alone, so that any folder can be shown, on any machine.
"""

from xft.reporting.comparison import write_comparison
from xft.reporting.run_folder import RunFolder, read_run
from xft.reporting.run_report import REPORT, write_report

__all__ = ["REPORT", "RunFolder", "read_run", "write_comparison", "write_report"]

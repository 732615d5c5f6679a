"""Pages and terminal output of runs and prepared data.

Pages are written from the files of a run folder, so any folder can be shown on any machine. They open from
disk without a network.
"""

from xft.reporting.comparison import write_comparison
from xft.reporting.run_folder import RunFolder, read_run
from xft.reporting.run_report import REPORT, write_report

__all__ = ["REPORT", "RunFolder", "read_run", "write_comparison", "write_report"]

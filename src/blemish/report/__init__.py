"""What people look at: heat maps, files of results, and one self-contained page."""

from blemish.report.overlays import heat_map, overlay
from blemish.report.page import write_report
from blemish.report.results import write_results

__all__ = ["heat_map", "overlay", "write_report", "write_results"]

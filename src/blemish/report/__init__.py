"""What people look at: files of results, pictures, tables, curves, and pages."""

from blemish.report.comparison import write_comparison
from blemish.report.curves import write_curves
from blemish.report.figures import write_table
from blemish.report.layers import write_layers
from blemish.report.page import write_report
from blemish.report.results import write_explanations, write_grid, write_image_figures

__all__ = [
    "write_comparison",
    "write_curves",
    "write_explanations",
    "write_grid",
    "write_image_figures",
    "write_layers",
    "write_report",
    "write_table",
]

"""What people look at: files of results, pictures, and one self-contained page."""

from blemish.report.comparison import write_comparison
from blemish.report.layers import write_layers
from blemish.report.page import write_report
from blemish.report.results import write_explanations, write_grid, write_image_figures

__all__ = [
    "write_comparison",
    "write_explanations",
    "write_grid",
    "write_image_figures",
    "write_layers",
    "write_report",
]

"""Writes the files of `predict --out`: results, pictures, boxes in other formats, and a page to review them."""

from blemish.results.reviewed import read_review
from blemish.results.tree import write_tree
from blemish.results.write import FORMATS, stream_results, write_results

__all__ = ["FORMATS", "read_review", "stream_results", "write_results", "write_tree"]

"""Exports a model as one graph for another runtime, after checking it on real images."""

from __future__ import annotations

from blemish.export.checking import Agreement
from blemish.export.export import Export, export_model
from blemish.export.formats import FORMATS

__all__ = ["FORMATS", "Agreement", "Export", "export_model"]
